/** What keeps the dead-letter store: the projection of the dead-letter topics, and the settlement of what operators decide. Put together here. */
import type { Databases } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { DeadLetterProjection } from '../deadletter/projection.ts';
import { Settlement } from '../deadletter/settlement.ts';
import type { EventDecoder } from '../events/decoder.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import type { Pools } from '../postgres/pools.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface KeeperParts {
  readonly config: Config;
  readonly decoder: EventDecoder;
  /** Where inboxes and outboxes are; the store is in the main one. */
  readonly databases: Databases;
  readonly pools: Pools;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Not started; each can be stopped. */
export function deadLetterKeepers(parts: KeeperParts): ReadonlyArray<DeadLetterProjection | Settlement> {
  const { config, decoder, pools, metrics } = parts;
  const logger = parts.logger.child({ part: 'dead-letters' });
  const pool = pools.of('main');
  const databases = [...parts.databases].map(([name, { RELAY_NAME: relay }]) => ({ pool: pools.of(name), relay }));
  const failPoint = armFailPoint(config.FERRY_FAIL_POINT);
  const projection = new DeadLetterProjection({
    kafka: kafkaOptions(config, 'ferry-dead-letters', logger),
    ...{ pool, decoder, logger, metrics, failPoint },
    topicPrefix: config.TOPIC_PREFIX,
    furtherTopics: config.DEAD_LETTER_TOPICS.split(',').flatMap((topic) => (topic.trim() === '' ? [] : [topic.trim()])),
  });
  return [projection, new Settlement({ pool, databases, logger, metrics, failPoint })];
}
