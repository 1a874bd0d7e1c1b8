/**
 * The composition root: the one place that knows all modules. Makes what the configured roles need, wires the ports, starts them, and
 * stops them in reverse.
 */
import { recordSource } from './cli/record-source.ts';
import type { RunningService } from './cli/service.ts';
import { type DatabaseConfig, type DatabaseName, type Databases, databaseOf, databasesOf } from './config/databases.ts';
import { eventTiers } from './config/tiers.ts';
import type { Config } from './config/variables.ts';
import { PayloadViews } from './deadletter/payload-views.ts';
import type { OwnerDatabase } from './deadletter/settlement.ts';
import {
  ANSWERS,
  CONSUMER_ROLES,
  commerceConsumers,
  connectionsOf,
  type Running,
} from './domain/commerce/consumers.ts';
import { fulfilment } from './domain/commerce/fulfilment.ts';
import { ordersPerCustomerSource } from './domain/commerce/orders-per-customer.ts';
import type { EventEncoder } from './events/encoder.ts';
import { subjectOf, type TopicRoutes, topicRoutes } from './events/routes.ts';
import type { PartState, ProbeDeps } from './http/probe-routes.ts';
import type { Projections } from './http/route-deps.ts';
import type { HttpServer } from './http/server.ts';
import { PositionGate } from './inbox/position-gate.ts';
import { kafkaOptions } from './kafka/client.ts';
import { GroupProgress } from './kafka/group-progress.ts';
import { ensureEventTopic, type TopicSettings } from './kafka/topic-catalog.ts';
import { groupsOfTopics } from './kafka/topic-groups.ts';
import { FerryError } from './kernel/errors.ts';
import { armFailPoint } from './kernel/fail-point.ts';
import { Scope } from './kernel/scope.ts';
import { databaseKeepers } from './ops/database-keepers.ts';
import { deadLetterKeepers } from './ops/dead-letter-keepers.ts';
import { kafkaState, registryState } from './ops/part-state.ts';
import { databaseOfConsumer, databasesInUse, parseRoles, type Role, relayPart, relaysOf } from './ops/roles.ts';
import { createEventWriter } from './outbox/event-writer.ts';
import { migrationSets } from './postgres/migrate.ts';
import { keepPartitions } from './postgres/partitions.ts';
import { Pools } from './postgres/pools.ts';
import { createDecoder } from './registry/decoder.ts';
import { createEncoder } from './registry/encoder.ts';
import { createRegistryClient } from './registry/registry-client.ts';
import { readSchemaFiles } from './registry/schema-files.ts';
import { type RefreshOutcome, SchemaStore } from './registry/schema-store.ts';
import { kafkaSinkOpener } from './relay/kafka-sink.ts';
import { relayNames } from './relay/names.ts';
import { Relay, type RelayStatus } from './relay/relay.ts';
import type { RelayOptions } from './relay/session.ts';
import { isAtWork } from './relay/states.ts';
import { ReplayRunner, type ReplayRunnerOptions } from './replay/runner.ts';
import { checkAgainstOutbox } from './replay/side-topic.ts';
import { SagaEngine } from './saga/engine.ts';
import type { Logger } from './telemetry/logger.ts';
import { startTelemetry, type Telemetry } from './telemetry/telemetry.ts';
import { changeStreamOpener } from './wal/change-stream.ts';

type ProbeSources = Omit<ProbeDeps, 'db'> & { readonly logger: Logger };

/** What every role is made of. */
interface Parts {
  readonly config: Config;
  readonly roles: ReadonlySet<Role>;
  readonly databases: Databases;
  readonly telemetry: Telemetry;
  readonly routes: TopicRoutes;
  readonly store: SchemaStore;
  readonly pools: Pools;
  readonly scope: Scope;
}

type Relays = ReadonlyMap<DatabaseName, Relay>;

/** Starts the roles of FERRY_ROLES; resolves when they are up. */
export async function startService(config: Config): Promise<RunningService> {
  const roles = parseRoles(config.FERRY_ROLES);
  const scope = new Scope();
  try {
    const databases = databasesOf(config);
    const inUse = databasesInUse(roles, databases);
    const telemetry = await startTelemetry(config, { role: [...roles].join(',') });
    scope.defer('telemetry', () => telemetry.shutdown());
    const onIdleError = (err: Error) => telemetry.logger.warn({ err }, 'an idle connection to Postgres broke');
    const pools = new Pools({ databases, applicationName: 'ferry', settings: () => ({ onIdleError }) });
    scope.defer('Postgres pools', () => pools.end());
    const parts: Parts = {
      config,
      roles,
      databases,
      telemetry,
      routes: topicRoutes(config),
      store: schemaStore(config, telemetry),
      pools,
      scope,
    };
    void preloadSchemas(parts);
    for (const database of inUse) {
      const warn = (err: unknown) => telemetry.logger.warn({ err, database }, 'the outbox has no new partitions');
      scope.defer(`partitions of ${database}`, keepPartitions(pools.of(database), warn));
    }
    const finished: Promise<void>[] = [];
    const relays = startRelays(parts, finished);
    startConsumers(parts, finished);
    if (roles.has('ops')) startOps(parts);
    const httpUrl = await serveHttp(parts, inUse, relays);
    // With another role in the process, a relay that refuses must not take that role down: readiness and the log tell of it.
    const alone = roles.size === 1;
    return { httpUrl, finished: alone ? Promise.race([...finished, never()]) : never(), stop: () => scope.close() };
  } catch (error) {
    await scope.close().catch(() => {});
    throw error;
  }
}

function schemaStore(config: Config, { metrics }: Telemetry): SchemaStore {
  const refreshed = (outcome: RefreshOutcome) => metrics.registryRequestsTotal.add(1, { outcome });
  const client = createRegistryClient({ url: requireSetting(config, 'SCHEMA_REGISTRY_URL') });
  return new SchemaStore(client, { metrics: { refreshed } });
}

/** What is known before the registry goes away outlives its absence, so all of our own schemas are asked for at once. */
async function preloadSchemas({ config, telemetry, routes, store }: Parts): Promise<void> {
  try {
    const files = readSchemaFiles(config.SCHEMAS_DIR);
    await store.preload(
      files.map((file) => subjectOf(config.SUBJECT_NAMING, routes.topicOf(file.aggregateType), file.tree.name)),
    );
  } catch (err) {
    telemetry.logger.warn({ err }, 'the schemas are not known yet; each is asked for when an event needs it');
  }
}

/** `finished` gets one promise for all of them: one that refuses must not take the others down. */
function startRelays(parts: Parts, finished: Promise<void>[]): Relays {
  const relays = new Map<DatabaseName, Relay>();
  const running: Promise<void>[] = [];
  for (const name of relaysOf(parts.roles, parts.databases)) {
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
  if (running.length > 0) {
    const all = Promise.allSettled(running).then(() => Promise.all(running).then(() => {}));
    all.catch(() => {});
    finished.push(all);
  }
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

function startConsumers(parts: Parts, finished: Promise<void>[]): void {
  const { config, roles, databases, telemetry, routes, store, scope } = parts;
  if (!CONSUMER_ROLES.some((role) => roles.has(role))) return;
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

/** What looks after the data while the others work; any number of processes may run it. */
function startOps(parts: Parts): void {
  const { databases, telemetry, pools, scope } = parts;
  const keepers: Running[] = [
    ...deadLetterKeepers({ ...parts, ...telemetry, databases: ownersIn(parts), decoder: createDecoder(parts) }),
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

/** Each database with its relay, the main one first. */
function ownersIn({ databases, pools }: Parts): OwnerDatabase[] {
  return [...databases].map(([name, { RELAY_NAME: relay }]) => ({ pool: pools.of(name), relay }));
}

function encoderOf({ config, store }: Pick<Parts, 'config' | 'store'>): EventEncoder {
  return createEncoder({ store, naming: config.SUBJECT_NAMING, maxEventBytes: config.MAX_EVENT_BYTES });
}

/** Of the topics that Ferry makes. */
function topicSettings(config: Config): TopicSettings {
  return { partitions: config.TOPIC_PARTITIONS, replicationFactor: config.TOPIC_REPLICATION_FACTOR };
}

/** The API where that is a role of this process, else probes where they are wanted; resolves with the API's address. */
async function serveHttp(
  parts: Parts,
  [first, ...others]: readonly DatabaseName[],
  relays: Relays,
): Promise<string | undefined> {
  const { config, roles, telemetry, pools } = parts;
  const probes = {
    ownDatabases: new Map(others.map((name) => [name, pools.of(name)])),
    parts: () => partStates(config, relays),
    metricsText: () => telemetry.metricsText(),
    logger: telemetry.logger.child({ part: 'http' }),
  };
  if (roles.has('api')) return listen(parts, await createApi(parts, probes), 'HTTP_PORT');
  if (config.PROBE_PORT !== 0 && first !== undefined) {
    const { createProbeServer } = await import('./http/probe-server.ts');
    await listen(parts, await createProbeServer({ ...probes, db: pools.of(first) }), 'PROBE_PORT');
  }
  return undefined;
}

async function createApi(parts: Parts, probes: ProbeSources): Promise<HttpServer> {
  const { config, databases, telemetry, routes, store, pools } = parts;
  // Loaded only here: half a second of start that a relay which takes over does not have.
  const { createHttpServer } = await import('./http/server.ts');
  const isInventoryApart = databaseOf(databases, 'inventory') !== 'main';
  return createHttpServer({
    ...probes,
    config,
    pool: pools.of('main'),
    ...(isInventoryApart ? { inventoryPool: pools.of('inventory') } : {}),
    events: createEventWriter(encoderOf(parts), routes),
    ownerOf: ownersByTopic(parts),
    projections: gateProjections(parts),
    sagas: { engine: new SagaEngine({ ...telemetry, sagas: [fulfilment] }), routes },
    owners: ownersIn(parts),
    payloads: {
      views: new PayloadViews({ store, decoder: createDecoder({ store }), naming: config.SUBJECT_NAMING }),
      encoder: encoderOf(parts),
    },
    lineage: {
      databases: [...databases].map(([name, { RELAY_NAME: relay }]) => ({ name, db: pools.of(name), relay })),
      routes,
      records: recordSource(config),
    },
    replays: {
      routes,
      topicPrefix: config.TOPIC_PREFIX,
      groupsOf: (topics) => groupsOfTopics(kafkaOptions(config, 'ferry-api', probes.logger), topics),
    },
    tracer: telemetry.tracer,
    metrics: telemetry.metrics,
    modules: migrationSets(config.FERRY_MODULES).filter((set) => set === 'commerce'),
  });
}

/** Which own database holds the events of an aggregatetype's topic: two outboxes could not keep the order of its keys. */
function ownersByTopic({ databases, routes }: Parts): (aggregateType: string) => DatabaseName | null {
  const owners = new Map<string, DatabaseName>();
  for (const [name, { own }] of databases) if (own !== undefined) owners.set(routes.topicOf(ANSWERS[own]), name);
  return (aggregateType) => owners.get(routes.tryTopicOf(aggregateType) ?? '') ?? null;
}

/** How reads wait until a projection has come to their position. Kafka is first spoken to when one does. */
function gateProjections({ config, telemetry, routes, pools, scope }: Parts): Projections {
  const { metrics } = telemetry;
  const logger = telemetry.logger.child({ part: 'position-gate' });
  const { group: groupId, topics } = ordersPerCustomerSource(routes, config.TOPIC_PREFIX);
  const openGroup = async () =>
    GroupProgress.open({ kafka: kafkaOptions(config, 'ferry-api', logger), groupId, topics });
  const gate = new PositionGate({ db: pools.of('main'), relay: config.RELAY_NAME, openGroup, logger, metrics });
  scope.defer('position gate', () => gate.close());
  return { ordersPerCustomer: gate.untilApplied };
}

function listen({ config, scope }: Parts, server: HttpServer, variable: 'HTTP_PORT' | 'PROBE_PORT'): Promise<string> {
  scope.defer('HTTP server', () => server.close());
  return server.listen({ host: config.HTTP_HOST, port: config[variable] }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EADDRINUSE') throw cause;
    throw new FerryError('PORT_TAKEN', `port ${config[variable]} is taken; ${variable} chooses another`, { cause });
  });
}

/** What of the world outside this process is within reach; none of it is needed to take an order in. */
async function partStates(config: Config, relays: Relays): Promise<Record<string, PartState>> {
  const [kafka, registry] = await Promise.all([kafkaState(config), registryState(config)]);
  const states = [...relays].map(([name, { status }]) => [relayPart(name), relayReadiness(status)] as const);
  return { kafka, registry, ...Object.fromEntries(states) };
}

/** A relay that waits for a part or stands by is no reason to refuse requests: what is written meanwhile is published later. */
function relayReadiness({ state, problem }: RelayStatus): PartState {
  return { state: isAtWork(state) ? 'ok' : 'degraded', detail: problem === null ? state : `${state}: ${problem}` };
}

function requireSetting(config: Config, name: 'SCHEMA_REGISTRY_URL'): string {
  const value = config[name];
  if (value === undefined)
    throw new FerryError('CONFIG_INVALID', `${name} is not set, and no embedded part runs in this home`);
  return value;
}

function never(): Promise<never> {
  return new Promise(() => {});
}
