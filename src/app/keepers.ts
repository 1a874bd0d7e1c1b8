/** The role ops. */
import type { DatabaseConfig, DatabaseName } from '../config/databases.ts';
import type { Running } from '../domain/commerce/consumers.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { ensureEventTopic } from '../kafka/topic-catalog.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import { databaseKeepers } from '../ops/database-keepers.ts';
import { deadLetterKeepers } from '../ops/dead-letter-keepers.ts';
import { createDecoder } from '../registry/decoder.ts';
import { ReplayRunner, type ReplayRunnerOptions } from '../replay/runner.ts';
import { checkAgainstOutbox } from '../replay/side-topic.ts';
import { encoderOf, type Parts, topicSettings } from './parts.ts';

/** What looks after the data while the others work; any number of processes may run it. */
export function startKeepers(parts: Parts): void {
  const { databases, telemetry, pools, scope } = parts;
  const owners = [...pools.withRelays().values()];
  const keepers: Running[] = [
    ...deadLetterKeepers({ ...parts, ...telemetry, databases: owners, decoder: createDecoder(parts) }),
  ];
  for (const [database, config] of databases) {
    const both = { pool: pools.of(database), deadLetters: pools.of('main') };
    keepers.push(...databaseKeepers({ database, config, telemetry, ...both }));
    keepers.push(new ReplayRunner(replayOptions(parts, database, config)));
  }
  for (const keeper of keepers) {
    scope.defer(keeper.constructor.name, async () => keeper.stop());
    void keeper.start();
  }
}

function replayOptions(parts: Parts, database: DatabaseName, config: DatabaseConfig): ReplayRunnerOptions {
  const { databases, telemetry, routes, store, pools } = parts;
  const logger = telemetry.logger.child({ part: 'replays', database });
  const kafka = kafkaOptions(config, 'ferry-replays', logger);
  return {
    pool: pools.of(database),
    relay: config.RELAY_NAME,
    codec: { encoder: encoderOf(parts), decoder: createDecoder({ store }), routes },
    maxLagBytes: config.REPLAY_MAX_LAG_BYTES,
    prepareTopic: async (topic) => {
      for (const name of databases.keys()) {
        await checkAgainstOutbox(pools.of(name), topic, routes, config.TOPIC_PREFIX);
      }
      await ensureEventTopic(kafka, topic, topicSettings(config), config.MAX_EVENT_BYTES);
    },
    failPoint: armFailPoint(config.FERRY_FAIL_POINT),
    logger,
    metrics: telemetry.metricsWith({ database }),
  };
}
