/** The consumer kit's front door: everything a service needs to consume events from an environment and a few handlers. */
import { metrics, trace } from '@opentelemetry/api';
import { loadConfig } from '../config/load.ts';
import { eventTiers } from '../config/tiers.ts';
import type { Config, VariableName } from '../config/variables.ts';
import type { EventPayloads } from '../events/generated/payloads.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { FerryError } from '../kernel/errors.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import { FERRY_VERSION } from '../kernel/version.ts';
import { createPool, type Pool } from '../postgres/connection.ts';
import { createDecoder } from '../registry/decoder.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { SchemaStore } from '../registry/schema-store.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { CONSUMER_DEFAULTS, type ConsumerSettings, EventConsumer } from './event-consumer.ts';
import { type Handlers, handlerMap } from './handler.ts';

export interface ConsumeOptions<M extends object = EventPayloads> extends Partial<ConsumerSettings> {
  /** Consumer group: members that share it share the events. Also the inbox's name for what was applied, so it must never change. */
  readonly group: string;
  readonly topics: readonly string[];
  readonly handlers: Handlers<M>;
  /**
   * DATABASE_URL (with the inbox, and what the handlers write), KAFKA_BROKERS, SCHEMA_REGISTRY_URL and whatever else of docs/CONSUMERS.md;
   * default: process.env.
   */
  readonly environment?: Readonly<Partial<Record<VariableName, string>>>;
  /** A pool of the service's own, with a connection for each of `concurrency`; default: one is made of DATABASE_URL. */
  readonly pool?: Pool;
  /** A pino logger; default: one that writes to standard output, by LOG_LEVEL and LOG_FORMAT. */
  readonly logger?: Logger;
}

export interface RunningConsumer {
  /** Takes nothing up any more until `resume`; what is in flight goes on, and the partitions stay with this member. */
  pause(): void;
  resume(): void;
  /**
   * Finishes what is in flight within `stopTimeoutMs` or hands it back, commits what is done, and leaves the group. Safe to call twice. Also
   * what `await using` does.
   */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Begins to consume. Kafka, Postgres and the registry need not be there yet: what is away is waited for, and nothing is lost. Spans and
 * metrics go to the process's OpenTelemetry SDK, if it has one. Throws CONFIG_INVALID naming what is missing or wrong.
 */
export function consume<M extends object = EventPayloads>(options: ConsumeOptions<M>): RunningConsumer {
  const { group, topics, handlers, environment = process.env, pool: own, logger: given, ...settings } = options;
  const config = loadConfig(environment);
  requireText('group', group);
  if (topics.length === 0) throw new FerryError('CONFIG_INVALID', 'topics is empty: name at least one topic');
  const logger = given ?? createLogger(config, { role: 'consumer' });
  const kafka = kafkaOptions(config, `ferry-${group}`, logger);
  const registry = createRegistryClient({ url: requireVariable(config, 'SCHEMA_REGISTRY_URL') });
  if (own === undefined) requireVariable(config, 'DATABASE_URL');
  const { concurrency, handlerTimeoutMs, retry } = { ...CONSUMER_DEFAULTS, ...settings };
  const tiers = eventTiers(config);
  const limits = { max: concurrency + EXTRA_CONNECTIONS, statementTimeoutMs: handlerTimeoutMs + TIMEOUT_MARGIN_MS };
  const pool = own ?? createPool(config, `ferry-${group}`, limits);
  const consumer = new EventConsumer({
    kafka,
    pool,
    decoder: createDecoder({ store: new SchemaStore(registry) }),
    logger,
    metrics: createMetrics(metrics.getMeter('ferry', FERRY_VERSION)),
    tracer: trace.getTracer('ferry', FERRY_VERSION),
    topicSettings: { partitions: config.TOPIC_PARTITIONS, replicationFactor: config.TOPIC_REPLICATION_FACTOR },
    backoffMaxMs: config.RELAY_BACKOFF_MAX_MS,
    failPoint: armFailPoint(config.FERRY_FAIL_POINT),
    group,
    topics,
    handlers: handlerMap(handlers),
    settings: {
      inboxRetentionDays: config.INBOX_RETENTION_DAYS,
      sessionTimeoutMs: config.CONSUMER_SESSION_TIMEOUT_MS,
      ...settings,
      retry: { triesOf: (type) => tiers.listed(type)?.tries ?? null, ...retry },
    },
  });
  consumer.start();
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= consumer.stop().finally(() => (own === undefined ? pool.end() : undefined));
    return stopped;
  };
  return { pause: () => consumer.pause(), resume: () => consumer.resume(), stop, [Symbol.asyncDispose]: stop };
}

/** For the upkeep of partitions and for released keys. */
const EXTRA_CONNECTIONS = 2;
/** Postgres ends a transaction that idles, which looks like a lost connection: the handler's own time must be over first. */
const TIMEOUT_MARGIN_MS = 10_000;

function requireText(name: string, value: string): void {
  if (value === '') throw new FerryError('CONFIG_INVALID', `${name} is empty`);
}

function requireVariable(config: Config, name: 'DATABASE_URL' | 'SCHEMA_REGISTRY_URL'): string {
  const value = config[name];
  if (value !== undefined) return value;
  throw new FerryError('CONFIG_INVALID', `${name} is not set`, { details: { variable: name } });
}
