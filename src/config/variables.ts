/**
 * Every setting of Ferry: one environment variable each, with type, default, unit and meaning. `./ferry config` and the README's
 * table are made from this list.
 */
import * as v from 'valibot';

interface Meaning {
  readonly description: string;
  readonly unit?: string;
  readonly secret?: boolean;
}

/** `takes` completes a sentence: what a right value is. */
export interface VariableFacts extends Meaning {
  readonly takes: string;
}

// What stands in the environment is text; a variable that is not there has its default.
const text = (fallback: string, meaning: Meaning) =>
  v.pipe(v.optional(v.string(), fallback), facts({ ...meaning, takes: 'text' }));
const integer = (fallback: number, minimum: number, maximum: number, meaning: Meaning) =>
  v.pipe(
    v.optional(v.pipe(v.string(), v.trim(), v.regex(/^-?\d{1,15}$/)), String(fallback)),
    v.transform(Number),
    v.minValue(minimum),
    v.maxValue(maximum),
    facts({ ...meaning, takes: `a whole number from ${minimum} to ${maximum}` }),
  );
const choice = <const T extends string>(fallback: NoInfer<T>, values: readonly T[], meaning: Meaning) =>
  v.pipe(v.optional(v.picklist(values), fallback), facts({ ...meaning, takes: `one of ${values.join(', ')}` }));
const optional = (meaning: Meaning) => v.pipe(v.exactOptional(v.string()), facts({ ...meaning, takes: 'text' }));

function facts<T>(given: VariableFacts): v.MetadataAction<T, VariableFacts & Record<string, unknown>> {
  return v.metadata({ ...given });
}

export const VARIABLES = {
  // --- parts; unset means the embedded one
  DATABASE_URL: optional({
    description: 'Postgres, 15 or newer, wal_level=logical. Unset: the embedded one.',
    secret: true,
  }),
  PAYMENT_DATABASE_URL: optional({
    description:
      'A database of payment’s own, with an outbox and a relay of its own. Unset: payment is in DATABASE_URL’s.',
    secret: true,
  }),
  INVENTORY_DATABASE_URL: optional({ description: 'As PAYMENT_DATABASE_URL, for inventory.', secret: true }),
  SHIPPING_DATABASE_URL: optional({ description: 'As PAYMENT_DATABASE_URL, for shipping.', secret: true }),
  KAFKA_BROKERS: optional({
    description: 'Kafka bootstrap servers, host:port, separated by commas. Unset: the embedded one.',
  }),
  SCHEMA_REGISTRY_URL: optional({
    description: 'Confluent-compatible schema registry. Unset: the embedded one.',
    secret: true,
  }),
  KAFKA_TLS: choice('auto', ['auto', 'on', 'off'], {
    description: 'Verified TLS to Kafka; auto: on unless every broker is on loopback.',
  }),
  POSTGRES_TLS: choice('auto', ['auto', 'on', 'off'], {
    description: 'Verified TLS to Postgres; auto: on unless the server is on loopback.',
  }),

  // --- service
  FERRY_ROLES: text('api,relay,ops,consumers', {
    description:
      'Roles that this process runs: api, relay, ops (looks after the data), consumers (all of projection, sagas, order, payment, inventory, shipping), or some of these.',
  }),
  FERRY_MODULES: text('', { description: 'Example modules: commerce, or empty for none.' }),
  HTTP_HOST: text('127.0.0.1', { description: 'Address that the HTTP server binds.' }),
  HTTP_PORT: integer(8080, 0, 65535, { description: 'Port of the HTTP server; 0 takes a free one.' }),
  PROBE_PORT: integer(0, 0, 65535, {
    description: 'Port of /livez, /readyz and /metrics in a process without the api role; 0: not served.',
  }),
  HTTP_BODY_LIMIT_BYTES: integer(1_048_576, 1024, 16_777_216, { description: 'Largest request body.', unit: 'bytes' }),
  IDEMPOTENCY_KEY_TTL_HOURS: integer(24, 1, 8760, {
    description: 'How long an idempotency key’s answer is kept.',
    unit: 'hours',
  }),
  IDEMPOTENCY_KEY_SECRET: optional({
    description: 'HMAC key under which idempotency keys are stored. Unset: one is made and kept in the database.',
    secret: true,
  }),
  SHUTDOWN_TIMEOUT_MS: integer(15_000, 100, 600_000, {
    description: 'Time for a graceful stop; a second signal stops at once.',
    unit: 'ms',
  }),
  LOG_LEVEL: choice('info', ['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
    description: 'Least severe log level written.',
  }),
  LOG_FORMAT: choice('auto', ['auto', 'json', 'pretty'], {
    description: 'auto: pretty on a terminal, JSON elsewhere.',
  }),
  OTEL_EXPORTER_OTLP_ENDPOINT: optional({
    description: 'OTLP/HTTP endpoint for traces and metrics. Unset: nothing is exported.',
  }),

  // --- events
  SCHEMAS_DIR: text('schemas', { description: 'Directory of the .avsc files.' }),
  TOPIC_PREFIX: text('', { description: 'Put before every topic name.' }),
  TOPIC_ROUTES: text(
    [
      'order=commerce.order',
      'order-command=commerce.order-command',
      'customer=commerce.customer',
      'payment=commerce.payment',
      'payment-command=commerce.payment-command',
      'inventory=commerce.inventory',
      'inventory-command=commerce.inventory-command',
      'shipment=commerce.shipment',
      'shipment-command=commerce.shipment-command',
    ].join(','),
    {
      description:
        'aggregatetype=topic pairs, separated by commas; an aggregatetype that is not listed goes to the topic of its own name.',
    },
  ),
  SUBJECT_NAMING: choice('topic-record', ['topic-record', 'topic', 'record'], {
    description: 'Subject name strategy.',
  }),
  TOPIC_PARTITIONS: integer(6, 1, 10_000, { description: 'Partitions of topics that Ferry creates.' }),
  TOPIC_REPLICATION_FACTOR: integer(-1, -1, 32, {
    description: 'Replication factor of topics that Ferry creates; -1: the broker’s default.',
  }),
  MAX_EVENT_BYTES: integer(900_000, 1024, 100_000_000, {
    description: 'Largest encoded event; must stay below the topic’s max.message.bytes.',
    unit: 'bytes',
  }),
  EVENT_TIERS: text('', {
    description:
      'type=tier pairs, separated by commas; the tiers are critical, standard and best-effort. A namespace may stand for its types (commerce.*); a type that is not listed is standard.',
  }),
  TIERS: text('', {
    description:
      'Changes what a tier means: tier.poison (park, dead-letter, halt; of the relay), tier.tries (of consume) and tier.days (how long dead letters that were dealt with are kept), such as critical.poison=halt,best-effort.tries=2.',
  }),
  CLOUDEVENTS_SOURCE: text('ferry', { description: 'ce_source of every event.' }),

  // --- relay
  RELAY_NAME: text('main', {
    description: 'Name of the relay: its slot, checkpoint topic and transactional id derive from it.',
  }),
  RELAY_SLOT: optional({
    description:
      'Replication slot; unset: ferry_<RELAY_NAME>. Slots are the server’s: two databases on one server need two names.',
  }),
  PUBLICATION_NAME: text('ferry_outbox', { description: 'Publication that the relay reads.' }),
  RELAY_BATCH_MAX_EVENTS: integer(5_000, 1, 100_000, {
    description: 'Most events in one Kafka transaction.',
    unit: 'events',
  }),
  RELAY_BATCH_MAX_BYTES: integer(4_194_304, 1_048_576, 67_108_864, {
    description: 'Most encoded bytes in one Kafka transaction.',
    unit: 'bytes',
  }),
  RELAY_BATCH_LINGER_MS: integer(0, 0, 2_000, {
    description: 'How long a batch waits for more events when no transaction is in flight.',
    unit: 'ms',
  }),
  RELAY_BUFFER_MAX_BYTES: integer(8_388_608, 1_048_576, 1_073_741_824, {
    description: 'Received and not yet sent, before the socket is paused.',
    unit: 'bytes',
  }),
  RELAY_TRANSACTION_TIMEOUT_MS: integer(12_000, 5_000, 60_000, {
    description: 'After this long Kafka aborts a transaction whose relay died.',
    unit: 'ms',
  }),
  RELAY_HEARTBEAT_INTERVAL_MS: integer(3_000, 100, 60_000, {
    description: 'A logical message this often moves checkpoint and slot when the outbox is idle.',
    unit: 'ms',
  }),
  RELAY_STATUS_INTERVAL_MS: integer(3_000, 100, 9_000, {
    description: 'How often the confirmed LSN is told to Postgres.',
    unit: 'ms',
  }),
  RELAY_DEAD_AFTER_MS: integer(20_000, 2_000, 300_000, {
    description: 'Without a byte from Postgres for this long the connection counts as dead.',
    unit: 'ms',
  }),
  RELAY_STANDBY_POLL_MS: integer(500, 50, 60_000, {
    description: 'How often a standby looks whether the slot is free.',
    unit: 'ms',
  }),
  RELAY_PARKED_MAX_EVENTS_PER_KEY: integer(10_000, 1, 1_000_000, {
    description: 'Most events that wait behind one that cannot be published; with more, the relay refuses to go on.',
    unit: 'events',
  }),
  RELAY_PARKED_MAX_EVENTS: integer(100_000, 1, 10_000_000, {
    description: 'The same of all parked keys together: about 300 bytes of memory each.',
    unit: 'events',
  }),
  RELAY_BACKOFF_MAX_MS: integer(10_000, 100, 300_000, {
    description: 'Longest pause between attempts to reach a part.',
    unit: 'ms',
  }),

  // --- replays
  REPLAY_MAX_LAG_BYTES: integer(67_108_864, 1_048_576, 1_099_511_627_776, {
    description: 'WAL that the relay may be behind; beyond it replays wait.',
    unit: 'bytes',
  }),

  // --- retention
  OUTBOX_RETENTION: integer(30, 0, 3_660, {
    description:
      'How long rows of the outbox are kept at least; then a day is dropped as soon as nothing needs it. 0: for ever.',
    unit: 'days',
  }),
  SAGA_RETENTION: integer(90, 0, 3_660, {
    description:
      'How long sagas that have ended are kept, with their history; at least as long as INBOX_RETENTION_DAYS. 0: for ever.',
    unit: 'days',
  }),

  // --- consumers
  INBOX_RETENTION_DAYS: integer(30, 1, 3_660, {
    description:
      'How long it is known what was consumed; an older event is dead-lettered, since it may have been applied.',
    unit: 'days',
  }),
  CONSUMER_SESSION_TIMEOUT_MS: integer(10_000, 500, 300_000, {
    description:
      'How long a consumer may be silent before its group gives its partitions to others: their wait after a crash. The brokers set the limits (6,000 at least by default).',
    unit: 'ms',
  }),

  DEAD_LETTER_TOPICS: text('', {
    description:
      'Further dead-letter topics for the store, separated by commas: of groups whose names do not begin with TOPIC_PREFIX.',
  }),

  // --- the commerce example
  PAYMENT_PROVIDER_URL: optional({ description: 'HTTP address of the payment provider. Unset: the embedded one.' }),
  PAYMENT_PROVIDER_TIMEOUT_MS: integer(2_000, 50, 60_000, {
    description: 'How long one call of the payment provider may take.',
    unit: 'ms',
  }),
  COMMERCE_RESERVATION_MINUTES: integer(30, 1, 10_080, {
    description: 'How long stock is set aside for an order that does not get on.',
    unit: 'minutes',
  }),
  COMMERCE_FAULT_PERCENT: integer(0, 0, 100, {
    description: 'Demo and tests: how many of a hundred orders each step before the hand-over refuses.',
    unit: '%',
  }),

  // --- embedded parts
  FERRY_HOME: text('.ferry', { description: 'Directory of the embedded stack: data, logs, recorded processes.' }),
  EMBEDDED_POSTGRES_PORT: integer(0, 0, 65535, { description: 'Port of the embedded Postgres; 0 takes a free one.' }),
  EMBEDDED_KAFKA_PORT: integer(0, 0, 65535, { description: 'Port of the embedded Kafka; 0 takes a free one.' }),
  EMBEDDED_REGISTRY_PORT: integer(0, 0, 65535, { description: 'Port of the embedded registry; 0 takes a free one.' }),
  EMBEDDED_PAYMENT_PROVIDER_PORT: integer(0, 0, 65535, {
    description: 'Port of the embedded payment provider; 0 takes a free one.',
  }),

  // --- tests only
  FERRY_FAIL_POINT: optional({
    description: 'Chaos tests: name[:nth] of the point at which the process kills itself.',
  }),
} as const;

export const EnvironmentSchema = v.object(VARIABLES);

/** All settings, typed; keys are the variables' names. */
export type Config = v.InferOutput<typeof EnvironmentSchema>;
export type VariableName = keyof typeof VARIABLES;
