/** Opens what commands need to read events back: Kafka under read_committed, and the registry to decode with. */
import type { Config } from '../config/variables.ts';
import type { EventDecoder } from '../events/decoder.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { LogReader } from '../kafka/log-reader.ts';
import { openCluster } from '../kafka/protocol.ts';
import { TopicCatalog } from '../kafka/topic-catalog.ts';
import { withDeadline } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import { createDecoder } from '../registry/decoder.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { SchemaStore } from '../registry/schema-store.ts';
import { createLogger } from '../telemetry/logger.ts';
import { requireAddress } from './session.ts';

export interface EventLog {
  readonly log: LogReader;
  readonly decoder: EventDecoder;
  topicExists(topic: string): Promise<boolean>;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 15_000;

/** Throws PART_UNREACHABLE when no broker answers, CONFIG_INVALID when an address is missing. */
export async function openEventLog(config: Config): Promise<EventLog> {
  requireAddress(config, 'KAFKA_BROKERS');
  // kafkajs warns about what the thrown error says better
  const options = kafkaOptions(config, 'ferry-cli', createLogger({ ...config, LOG_LEVEL: 'silent' }, { role: 'cli' }));
  const cluster = await withDeadline('reaching Kafka', CONNECT_TIMEOUT_MS, openCluster(options)).catch((cause) => {
    throw new FerryError('PART_UNREACHABLE', `Kafka at ${options.brokers.join(',')} does not answer`, { cause });
  });
  const catalog = new TopicCatalog(options, cluster, { partitions: 1, replicationFactor: -1 });
  return {
    log: new LogReader(cluster),
    decoder: createDecoder({
      store: new SchemaStore(createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') })),
    }),
    topicExists: async (topic) => (await catalog.lookUp(topic)) !== null,
    close: () => cluster.disconnect(),
  };
}
