/** The HTTP server for tests: the real one, over a database and an encoder of the caller's choice. */
import { trace } from '@opentelemetry/api';
import type { FastifyInstance } from 'fastify';
import { PayloadViews } from '../../src/deadletter/payload-views.ts';
import { fulfilment } from '../../src/domain/commerce/fulfilment.ts';
import type { EventEncoder } from '../../src/events/encoder.ts';
import { TopicRoutes } from '../../src/events/routes.ts';
import { createHttpServer, type HttpDeps } from '../../src/http/server.ts';
import type { RecordSource } from '../../src/ops/lineage.ts';
import { createEventWriter } from '../../src/outbox/event-writer.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { SagaEngine } from '../../src/saga/engine.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { quiet } from './relay-fixtures.ts';

export interface TestServerOptions {
  readonly databaseUrl: string;
  readonly encoder: EventEncoder;
  readonly topicPrefix?: string;
  readonly relayName?: string;
  readonly overrides?: Partial<HttpDeps>;
}

/** `close` also ends the pool. */
export async function testServer(options: TestServerOptions): Promise<FastifyInstance> {
  const pool = createPool({ DATABASE_URL: options.databaseUrl, POSTGRES_TLS: 'off' }, 'ferry-test', { max: 20 });
  const routes = new TopicRoutes(options.topicPrefix ?? '', new Map());
  const app = await createHttpServer({
    config: {
      HTTP_BODY_LIMIT_BYTES: 65_536,
      IDEMPOTENCY_KEY_TTL_HOURS: 24,
      IDEMPOTENCY_KEY_SECRET: 'a secret of the tests, long enough',
      RELAY_NAME: options.relayName ?? 'main',
    },
    pool,
    events: createEventWriter(options.encoder, routes),
    logger: createLogger({ LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }, { role: 'test' }),
    projections: { ordersPerCustomer: async () => 'applied' }, // overridden where it matters
    payloads: {
      views: new PayloadViews({
        store: NO_SCHEMAS,
        decoder: createDecoder({ store: NO_SCHEMAS }),
        naming: 'topic-record',
      }),
      encoder: options.encoder,
    },
    sagas: { engine: new SagaEngine({ ...quiet, sagas: [fulfilment] }), routes },
    lineage: {
      databases: [{ name: 'main', db: pool, relay: options.relayName ?? 'main' }],
      routes,
      records: noRecords,
    },
    replays: { routes, topicPrefix: options.topicPrefix ?? '', groupsOf: async () => new Map() },
    tracer: trace.getTracer('test'),
    metrics: { httpRequestDurationSeconds: { record: () => {} } },
    parts: async () => ({ kafka: { state: 'ok' } }),
    metricsText: async () => '# no metrics\n',
    modules: ['commerce'],
    ...options.overrides,
  });
  app.addHook('onClose', () => pool.end());
  return app;
}

/** Knows no schema; overridden where it matters. */
const NO_SCHEMAS = new SchemaStore({
  versionsOf: async () => null,
  version: async () => null,
  schemaById: async () => null,
  subjectsOfId: async () => [],
});

/** Knows no record: overridden where it matters. */
const noRecords: RecordSource = {
  find: async () => ({ record: null, notFound: 'nobody looked' }),
  versionOf: async () => null,
};

/** Takes every event without looking: for tests that are not about schemas. */
export const blindEncoder: EventEncoder = {
  encode: () => ({ ok: true, value: null, schemaId: null, subject: null }),
  refresh: async () => false,
};
