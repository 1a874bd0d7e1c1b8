/** Where the way of an event leads through Kafka and the registry: both are opened when they are asked, and closed again. */
import type { Config } from '../config/variables.ts';
import type { RecordSource } from '../ops/lineage.ts';
import { findRecords } from '../ops/record-finder.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { openEventLog } from './event-log.ts';
import { requireAddress } from './session.ts';

export function recordSource(config: Config): RecordSource {
  return {
    async find(wanted) {
      const log = await openEventLog(config);
      try {
        const { records, givenUp } = await findRecords(log, [wanted]);
        const record = records.get(wanted.id);
        if (record !== undefined) return { record };
        const far = givenUp.has(wanted.id) ? ' among the records that were published after it was written' : '';
        return { record: null, notFound: `not found in ${wanted.topic}${far}; Kafka may not keep it any more` };
      } finally {
        await log.close();
      }
    },
    async versionOf(subject, schemaId) {
      const client = createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') });
      for (const version of (await client.versionsOf(subject))?.toReversed() ?? []) {
        if ((await client.version(subject, version))?.id === schemaId) return version;
      }
      return null;
    },
  };
}
