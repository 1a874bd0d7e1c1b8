/** The roles that consume: the example's projection, its sagas and their participants. */
import type { DatabaseName } from '../config/databases.ts';
import { commerceConsumers, connectionsOf } from '../domain/commerce/consumers.ts';
import { CONSUMER_ROLES } from '../domain/commerce/roles.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { never } from '../kernel/deadline.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import { databaseOfConsumer } from '../ops/roles.ts';
import { createEventWriter } from '../outbox/event-writer.ts';
import { migrationSets } from '../postgres/migrate.ts';
import { Pools } from '../postgres/pools.ts';
import { createDecoder } from '../registry/decoder.ts';
import { encoderOf, type Parts, topicSettings } from './parts.ts';

export function startConsumers(parts: Parts, finished: Promise<void>[]): void {
  const { config, roles, databases, telemetry, routes, store, scope } = parts;
  if (!migrationSets(config.FERRY_MODULES).includes('commerce')) return; // all the consumers there are, are that module's
  const { logger, metrics, eventTracer: tracer } = telemetry;
  const rolesIn = (database: DatabaseName) =>
    new Set(CONSUMER_ROLES.filter((role) => roles.has(role) && databaseOfConsumer(role, databases) === database));
  // Of their own: a consumer that waits for a connection must not keep requests waiting.
  const pools = new Pools({
    databases,
    applicationName: 'ferry-consumers',
    settings: (database) => ({ max: connectionsOf(rolesIn(database)) }),
  });
  scope.defer('the consumers’ Postgres pools', () => pools.end());
  const consumers = commerceConsumers(roles, {
    config,
    routes,
    kafka: kafkaOptions(config, 'ferry-consumers', logger.child({ part: 'consumers' })),
    poolOf: (role) => pools.of(databaseOfConsumer(role, databases)),
    decoder: createDecoder({ store }),
    events: createEventWriter(encoderOf(parts), routes),
    logger,
    metrics,
    tracer,
    topicSettings: topicSettings(config),
    backoffMaxMs: config.RELAY_BACKOFF_MAX_MS,
    failPoint: armFailPoint(config.FERRY_FAIL_POINT),
  });
  scope.defer('consumers', () => Promise.all(consumers.map((consumer) => consumer.stop())));
  for (const consumer of consumers) {
    const refused = Promise.resolve(consumer.start()).then(never, (err) => {
      logger.fatal({ err }, 'a consumer refuses to start');
      throw err;
    });
    refused.catch(() => {}); // `finished` tells who wants to know
    finished.push(refused);
  }
}
