/** The HTTP API for integration tests: the real server over a real database, and the real encoder over the real registry. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after } from 'node:test';
import type { FastifyInstance } from 'fastify';
import { PayloadViews } from '../../src/deadletter/payload-views.ts';
import { createApiKey, ROLES, type Role } from '../../src/domain/access/api-key.ts';
import { TopicRoutes } from '../../src/events/routes.ts';
import type { HttpDeps } from '../../src/http/server.ts';
import { createPool, type Pool } from '../../src/postgres/connection.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { createEncoder } from '../../src/registry/encoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { readSchemaFiles } from '../../src/registry/schema-files.ts';
import { pushSchemas } from '../../src/registry/schema-push.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { testServer } from './http-server.ts';
import type { TestStack } from './stack.ts';

export interface ApiAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Parsed; the tests look at what they expect in it. */
  readonly body: Record<string, unknown>;
  readonly text: string;
}

export interface ApiRequest {
  readonly as?: Role | null;
  readonly body?: unknown;
  /** Fresh for each POST unless given; null sends none. */
  readonly idempotencyKey?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TestApi {
  readonly app: FastifyInstance;
  readonly pool: Pool;
  request(method: 'GET' | 'POST' | 'PUT', path: string, request?: ApiRequest): Promise<ApiAnswer>;
  /** A fresh customer with this credit in EUR; returns its id. */
  customer(creditLimit: string): Promise<string>;
}

const SCHEMAS_DIR = join(import.meta.dirname, '../../schemas');

/** Registers the schemas and makes the server; both end with the test file. `registryUrl` may lead through a proxy. */
export async function testApi(
  stack: TestStack,
  options: { readonly registryUrl?: string; readonly overrides?: Partial<HttpDeps> } = {},
): Promise<TestApi> {
  const routes = new TopicRoutes(stack.topicPrefix, new Map());
  const files = readSchemaFiles(SCHEMAS_DIR);
  const push = {
    client: createRegistryClient({ url: stack.registryUrl }),
    files,
    routes,
    naming: 'topic-record' as const,
  };
  await pushSchemas(push);
  const registry = createRegistryClient({ url: options.registryUrl ?? stack.registryUrl, timeoutMs: 1_000 });
  const store = new SchemaStore(registry);
  const naming = 'topic-record';
  const encoder = createEncoder({ store, naming, maxEventBytes: 900_000 });
  const views = new PayloadViews({ store, decoder: createDecoder({ store }), naming });
  const app = await testServer({
    databaseUrl: stack.databaseUrl,
    encoder,
    topicPrefix: stack.topicPrefix,
    relayName: stack.relayName,
    overrides: { payloads: { views, encoder }, ...options.overrides },
  });
  const pool = createPool({ DATABASE_URL: stack.databaseUrl, POSTGRES_TLS: 'auto' }, 'ferry-test', { max: 4 });
  after(async () => {
    await app.close();
    await pool.end();
  });
  const keys = new Map<Role, string>();
  for (const role of ROLES) keys.set(role, await createApiKey(pool, { name: `test ${role}`, role }));

  const request: TestApi['request'] = async (method, path, { as = 'admin', body, idempotencyKey, headers } = {}) => {
    const idempotency = idempotencyKey === undefined ? randomUUID() : idempotencyKey;
    const response = await app.inject({
      method,
      url: path,
      headers: {
        ...(as === null ? {} : { authorization: `Bearer ${keys.get(as)}` }),
        ...(method === 'POST' && idempotency !== null ? { 'idempotency-key': idempotency } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const isJson = String(response.headers['content-type']).includes('json');
    const parsed = isJson ? (JSON.parse(response.body) as Record<string, unknown>) : {};
    return { status: response.statusCode, headers: response.headers, body: parsed, text: response.body };
  };
  const customer = async (creditLimit: string) => {
    const id = `c-${randomUUID()}`;
    const { status, text } = await request('PUT', `/v1/customers/${id}`, { body: { currency: 'EUR', creditLimit } });
    if (status !== 200) throw new Error(`no customer could be made: ${text}`);
    return id;
  };
  return { app, pool, request, customer };
}
