/** The role relay: one for each database with an outbox. */
import type { DatabaseConfig, DatabaseName } from '../config/databases.ts';
import { eventTiers } from '../config/tiers.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import { kafkaSinkOpener } from '../relay/kafka-sink.ts';
import { relayNames } from '../relay/names.ts';
import { Relay } from '../relay/relay.ts';
import type { RelayOptions } from '../relay/session.ts';
import { changeStreamOpener } from '../wal/change-stream.ts';
import { encoderOf, type Parts, topicSettings } from './parts.ts';

export type Relays = ReadonlyMap<DatabaseName, Relay>;

/** Those of these databases. `finished` gets one promise for all of them: one that refuses must not take the others down. */
export function startRelays(parts: Parts, names: readonly DatabaseName[], finished: Promise<void>[]): Relays {
  const relays = new Map<DatabaseName, Relay>();
  const running: Promise<void>[] = [];
  for (const name of names) {
    const relay = new Relay(relayOptions({ ...parts, config: parts.databases.get(name) ?? parts.config }));
    const ended = relay.run();
    ended.catch(() => {}); // the relay has logged it; `finished` tells who wants to know
    relays.set(name, relay);
    running.push(ended);
    parts.scope.defer(`relay of ${name}`, () => {
      relay.stop();
      return ended.catch(() => {});
    });
  }
  const all = Promise.allSettled(running).then(() => Promise.all(running).then(() => {}));
  all.catch(() => {});
  finished.push(all);
  return relays;
}

/** A relay of the configuration's name with its real ports; chaos tests put faulty ones in their place. */
export function relayOptions({
  config,
  telemetry,
  routes,
  store,
}: Pick<Parts, 'telemetry' | 'routes' | 'store'> & { readonly config: DatabaseConfig }): RelayOptions {
  const logger = telemetry.logger.child({ part: 'relay', relay: config.RELAY_NAME });
  const names = relayNames(config);
  const failPoint = armFailPoint(config.FERRY_FAIL_POINT);
  return {
    ...names,
    settings: config,
    openChangeStream: changeStreamOpener(config, names),
    openSink: kafkaSinkOpener({
      kafka: kafkaOptions(config, `ferry-relay-${config.RELAY_NAME}`, logger),
      topics: topicSettings(config),
      checkpointTopic: names.checkpointTopic,
      parkedTopic: names.parkedTopic,
      transactionTimeoutMs: config.RELAY_TRANSACTION_TIMEOUT_MS,
      maxEventBytes: config.MAX_EVENT_BYTES,
      failPoint,
    }),
    encoder: encoderOf({ config, store }),
    routes,
    source: config.CLOUDEVENTS_SOURCE,
    maxEventBytes: config.MAX_EVENT_BYTES,
    tiers: eventTiers(config),
    parkedBounds: {
      maxEventsPerKey: config.RELAY_PARKED_MAX_EVENTS_PER_KEY,
      maxEvents: config.RELAY_PARKED_MAX_EVENTS,
    },
    limits: { maxEvents: config.RELAY_BATCH_MAX_EVENTS, maxBytes: config.RELAY_BATCH_MAX_BYTES },
    lingerMs: config.RELAY_BATCH_LINGER_MS,
    bufferMaxBytes: config.RELAY_BUFFER_MAX_BYTES,
    heartbeatIntervalMs: config.RELAY_HEARTBEAT_INTERVAL_MS,
    statusIntervalMs: config.RELAY_STATUS_INTERVAL_MS,
    deadAfterMs: config.RELAY_DEAD_AFTER_MS,
    standbyPollMs: config.RELAY_STANDBY_POLL_MS,
    backoffMaxMs: config.RELAY_BACKOFF_MAX_MS,
    logger,
    metrics: telemetry.metricsWith({ relay: config.RELAY_NAME }),
    tracer: telemetry.tracer,
    failPoint,
  };
}
