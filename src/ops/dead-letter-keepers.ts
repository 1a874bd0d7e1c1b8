/** What keeps the dead-letter store: the projection of the dead-letter topics, and the settlement of what operators decide. Put together here. */
import { eventTiers } from '../config/tiers.ts';
import type { Config } from '../config/variables.ts';
import { DeadLetterProjection } from '../deadletter/projection.ts';
import { type OwnerDatabase, Settlement } from '../deadletter/settlement.ts';
import type { EventDecoder } from '../events/decoder.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface KeeperParts {
  readonly config: Config;
  readonly decoder: EventDecoder;
  /** Where inboxes and outboxes are; the store is in the first. */
  readonly databases: readonly OwnerDatabase[];
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Not started; each can be stopped. */
export function deadLetterKeepers(parts: KeeperParts): ReadonlyArray<DeadLetterProjection | Settlement> {
  const { config, decoder, databases, metrics } = parts;
  const logger = parts.logger.child({ part: 'dead-letters' });
  const [store] = databases;
  if (store === undefined) throw new Error('no database is given');
  const { pool } = store;
  const failPoint = armFailPoint(config.FERRY_FAIL_POINT);
  const projection = new DeadLetterProjection({
    kafka: kafkaOptions(config, 'ferry-dead-letters', logger),
    ...{ pool, decoder, logger, metrics, failPoint },
    topicPrefix: config.TOPIC_PREFIX,
    furtherTopics: config.DEAD_LETTER_TOPICS.split(',').flatMap((topic) => (topic.trim() === '' ? [] : [topic.trim()])),
  });
  return [projection, new Settlement({ pool, databases, tiers: eventTiers(config), logger, metrics, failPoint })];
}
