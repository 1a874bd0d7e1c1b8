/** The HTTP server, put together: what surrounds every request, then the routes. Listening and stopping are the caller's. */
import { createSecretKey, type KeyObject } from 'node:crypto';
import type { Tracer } from '@opentelemetry/api';
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import { v7 } from 'uuid';
import type { DatabaseName } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import type { OwnerDatabase } from '../deadletter/settlement.ts';
import { FerryError } from '../kernel/errors.ts';
import { parseExactJson } from '../kernel/exact-json.ts';
import type { PayloadTools } from '../ops/dead-letter-actions.ts';
import type { LineageSources } from '../ops/lineage.ts';
import type { EventWriter } from '../outbox/event-writer.ts';
import type { Pool } from '../postgres/connection.ts';
import { keepIdempotencyPartitions } from '../postgres/partitions.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { auditRoutes } from './audit-routes.ts';
import { registerAuthentication } from './authentication.ts';
import { buildSerializer, validatorCompiler } from './compilers.ts';
import { contractRoute } from './contract-route.ts';
import { customerRoutes } from './customer-routes.ts';
import { deadLetterRoutes } from './dead-letter-routes.ts';
import { eventRoutes } from './event-routes.ts';
import { idempotencyKeyOf } from './idempotency.ts';
import { sharedSecret } from './idempotency-store.ts';
import { lineageRoutes } from './lineage-routes.ts';
import { describeContract } from './openapi.ts';
import { orderRoutes } from './order-routes.ts';
import { orderStreamRoutes } from './order-stream-routes.ts';
import { orderTotalsRoutes } from './order-totals-routes.ts';
import { parkedKeyRoutes } from './parked-key-routes.ts';
import { type ProbeDeps, probeRoutes } from './probe-routes.ts';
import { sendProblem } from './problem.ts';
import { type ReplayDeps, replayRoutes } from './replay-routes.ts';
import type { DepsOfDatabase, Projections, RouteDeps } from './route-deps.ts';
import { type SagaDeps, sagaRoutes } from './saga-routes.ts';
import { stockRoutes } from './stock-routes.ts';
import { registerTracing } from './tracing.ts';

export type { FastifyInstance as HttpServer } from 'fastify';

export interface HttpDeps extends Omit<ProbeDeps, 'db'> {
  readonly config: Pick<
    Config,
    'HTTP_BODY_LIMIT_BYTES' | 'IDEMPOTENCY_KEY_TTL_HOURS' | 'IDEMPOTENCY_KEY_SECRET' | 'RELAY_NAME'
  >;
  readonly pool: Pool;
  /** All that there are, with their relays; left out: the main one alone. */
  readonly databases?: ReadonlyMap<DatabaseName, OwnerDatabase>;
  readonly events: EventWriter;
  /** The participant in whose own database events of an aggregatetype are written, and nowhere else; null: it is the main one. */
  readonly ownerOf?: (aggregateType: string) => string | null;
  readonly projections: Projections;
  /** By what the way of an event is put together. */
  readonly lineage: LineageSources;
  /** Left out: this process knows no sagas, and has no routes for them. */
  readonly sagas?: SagaDeps;
  /** How the payloads of dead letters are read and checked. */
  readonly payloads: PayloadTools;
  readonly replays: ReplayDeps;
  readonly logger: Logger;
  readonly tracer: Tracer;
  readonly metrics: Pick<Metrics, 'httpRequestDurationSeconds'>;
  /** Example modules whose routes are wanted. */
  readonly modules: readonly 'commerce'[];
}

const REQUEST_TIMEOUT_MS = 30_000;

const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/**
 * Makes the server. `listen` it; `close` answers what is in flight and refuses what comes after. The database must be migrated: the
 * secret of the idempotency keys is read (or made) here.
 */
export async function createHttpServer(deps: HttpDeps): Promise<FastifyInstance> {
  const logger: FastifyBaseLogger = deps.logger;
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }), // tracing.ts writes one line for each request
    bodyLimit: deps.config.HTTP_BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200 },
    schemaController: { compilersFactory: { buildSerializer } },
    genReqId: (request) => requestIdOf(request.headers['x-request-id']),
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(new FerryError('NOT_FOUND', 'there is no such route'), request, reply),
  );
  acceptExactJson(app);
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers({ ...SECURITY_HEADERS, 'x-request-id': request.id });
    done();
  });
  registerTracing(app, deps.tracer, deps.metrics);
  registerAuthentication(app, deps.pool);
  requireIdempotencyKeys(app);
  await describeContract(app);

  const routeDeps: RouteDeps = {
    pool: deps.pool,
    events: deps.events,
    projections: deps.projections,
    stopping: signalStop(app),
    relayName: deps.config.RELAY_NAME,
    ownerOf: deps.ownerOf ?? (() => null),
    idempotency: {
      pool: deps.pool,
      secret: await idempotencySecret(deps),
      ttlHours: deps.config.IDEMPOTENCY_KEY_TTL_HOURS,
      tellsPosition: true,
    },
  };
  const databases = deps.databases ?? new Map([['main', { pool: deps.pool, relay: deps.config.RELAY_NAME }]]);
  const depsOf: DepsOfDatabase = (name = 'main') => depsIn(routeDeps, databases, name);
  await app.register(probeRoutes({ ...deps, db: deps.pool }));
  await app.register(contractRoute);
  await app.register(eventRoutes(routeDeps));
  await app.register(auditRoutes(routeDeps));
  await app.register(lineageRoutes(deps.lineage));
  if (deps.modules.includes('commerce')) {
    await app.register(orderRoutes(routeDeps));
    await app.register(customerRoutes(routeDeps));
    await app.register(orderTotalsRoutes(routeDeps));
    await app.register(stockRoutes(depsOf(databases.has('inventory') ? 'inventory' : 'main')));
    await app.register(orderStreamRoutes(routeDeps, deps.logger));
  }
  if (deps.sagas !== undefined) await app.register(sagaRoutes(routeDeps, deps.sagas));
  await app.register(deadLetterRoutes(routeDeps, deps.payloads));
  await app.register(replayRoutes(depsOf, deps.replays));
  await app.register(parkedKeyRoutes(routeDeps, [...databases.values()]));
  keepIdempotencyDays(app, databases, deps.logger);
  return app;
}

/**
 * For routes that work in a database of a participant's own: rows, idempotency keys and audit rows are there; keys of the API are looked up
 * in the main one all the same. Throws INVALID_REQUEST if there is no such database.
 */
function depsIn(deps: RouteDeps, databases: ReadonlyMap<string, OwnerDatabase>, name: DatabaseName): RouteDeps {
  if (name === 'main') return deps;
  const own = databases.get(name);
  if (own === undefined) throw new FerryError('INVALID_REQUEST', `database is ${name}, which has none of its own`);
  const idempotency = { ...deps.idempotency, pool: own.pool, tellsPosition: false };
  return { ...deps, pool: own.pool, relayName: own.relay, idempotency };
}

/** The client's id where it can stand in logs as it is. */
function requestIdOf(header: string | string[] | undefined): string {
  return typeof header === 'string' && /^[\w-]{1,64}$/.test(header) ? header : v7();
}

/** JSON only, and without losing digits of large numbers: payloads pass through here. An empty body counts as none. */
function acceptExactJson(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    try {
      done(null, body === '' ? undefined : parseExactJson(String(body)));
    } catch (cause) {
      done(new FerryError('MALFORMED_REQUEST', 'the body is not well-formed JSON', { cause }));
    }
  });
}

/**
 * Fires when the server begins to stop: whoever holds a request back answers it. A connection that was in use at that moment ends with its
 * answer; kept alive it would hold up the stop for as long as a client may keep one.
 */
function signalStop(app: FastifyInstance): AbortSignal {
  const stopping = new AbortController();
  app.addHook('preClose', (done) => {
    stopping.abort();
    done();
  });
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (stopping.signal.aborted) reply.header('connection', 'close');
    done();
  });
  return stopping.signal;
}

/** Every POST, before its body is looked at. */
function requireIdempotencyKeys(app: FastifyInstance): void {
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.method === 'POST' && !request.is404) idempotencyKeyOf(request);
    done();
  });
}

async function idempotencySecret({ config, pool }: HttpDeps): Promise<KeyObject> {
  const { IDEMPOTENCY_KEY_SECRET: configured } = config;
  return createSecretKey(configured === undefined ? await sharedSecret(pool) : Buffer.from(configured, 'utf8'));
}

function keepIdempotencyDays(
  app: FastifyInstance,
  databases: ReadonlyMap<string, OwnerDatabase>,
  logger: Logger,
): void {
  const stops = [...databases].map(([database, { pool }]) =>
    keepIdempotencyPartitions(pool, (err) =>
      logger.warn({ err, database }, 'the partitions of the idempotency keys are not kept'),
    ),
  );
  app.addHook('onClose', (_app, done) => {
    for (const stop of stops) stop();
    done();
  });
}
