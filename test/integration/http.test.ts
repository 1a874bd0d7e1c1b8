/** The HTTP API around its routes: keys and roles, idempotency, problems, schemas inside the write, probes. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { v7 } from 'uuid';
import { createApiKey } from '../../src/domain/access/api-key.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { startTelemetry } from '../../src/telemetry/telemetry.ts';
import { testApi } from '../support/api.ts';
import { idOfDay, noteDroppedDay } from '../support/old-days.ts';
import { testStack } from '../support/stack.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const stack = await testStack();
const registry = new URL(stack.registryUrl);
const proxy = await TcpProxy.start({ host: registry.hostname, port: Number(registry.port) });
after(() => proxy.close());
const api = await testApi(stack, { registryUrl: proxy.through(stack.registryUrl) });

const orderOf = (customerId: string, unitPrice = '10.00') => ({
  customerId,
  currency: 'EUR',
  lines: [{ sku: 'TEA-1', quantity: 2, unitPrice }],
});
const cancelled = (aggregateId: string, change: object = {}) => ({
  aggregateType: 'order',
  aggregateId,
  type: 'commerce.OrderCancelled',
  payload: {
    orderId: randomUUID(),
    customerId: 'ada',
    currency: 'EUR',
    total: '10.00',
    cancelledAt: '2026-01-02T03:04:05.678901Z',
    ...change,
  },
});
const count = async (table: string) =>
  Number((await api.pool.query<{ count: bigint }>(`select count(*) from ${table}`)).rows[0]?.count);
/** Fails if `work` wrote a row anywhere. */
async function writesNothing<T>(work: () => Promise<T>): Promise<T> {
  const tables = ['ferry.outbox', 'ferry.aggregate', 'ferry.audit', 'ferry.idempotency_key', 'commerce.orders'];
  const before = await Promise.all(tables.map(count));
  const result = await work();
  assert.deepEqual(await Promise.all(tables.map(count)), before);
  return result;
}

describe('keys and roles', () => {
  it('are asked for', async () => {
    const none = await api.request('GET', '/v1/orders', { as: null });
    assert.equal(none.status, 401);
    assert.equal(none.headers['www-authenticate'], 'Bearer realm="ferry"');
    const wrong = await api.request('GET', '/v1/orders', {
      as: null,
      headers: { authorization: 'Bearer ferry_guessed' },
    });
    assert.equal(wrong.body.code, 'UNAUTHENTICATED');
    assert.doesNotMatch(wrong.text, /guessed/);
  });

  it('let a viewer read and a writer write, and only an admin give credit', async () => {
    assert.equal((await api.request('GET', '/v1/orders', { as: 'viewer' })).status, 200);
    const attempts = [
      await api.request('POST', '/v1/orders', { as: 'viewer', body: orderOf('x') }),
      await api.request('POST', '/v1/events', { as: 'viewer', body: cancelled('1') }),
      await api.request('PUT', '/v1/customers/x', { as: 'operator', body: { currency: 'EUR', creditLimit: '1.00' } }),
    ];
    for (const { status, body, headers } of attempts) {
      assert.equal(status, 403);
      assert.equal(body.code, 'FORBIDDEN');
      assert.match(String(headers['content-type']), /^application\/problem\+json/);
    }
  });

  it('end when the key is revoked or expires', async () => {
    for (const end of ['revoked_at', 'expires_at']) {
      const key = await createApiKey(api.pool, { name: end, role: 'viewer' });
      await api.pool.query(`update ferry.api_key set ${end} = now() where name = $1`, [end]);
      const { status } = await api.request('GET', '/v1/orders', {
        as: null,
        headers: { authorization: `Bearer ${key}` },
      });
      assert.equal(status, 401, end);
    }
  });
});

describe('problems', () => {
  it('name the field at fault', async () => {
    const wrong: Array<[path: string, body: unknown]> = [
      ['/lines/0/quantity', { ...orderOf('x'), lines: [{ sku: 'A', quantity: 0, unitPrice: '1.00' }] }],
      ['/lines/0/quantity', { ...orderOf('x'), lines: [{ sku: 'A', quantity: '1', unitPrice: '1.00' }] }],
      ['/lines/0/unitPrice', { ...orderOf('x'), lines: [{ sku: 'A', quantity: 1, unitPrice: 1 }] }],
      ['/currency', { ...orderOf('x'), currency: 'XXX' }],
      ['/customerId', { currency: 'EUR', lines: orderOf('x').lines }],
      ['/colour', { ...orderOf('x'), colour: 'blue' }],
      [
        '/shippingAddress/city',
        { ...orderOf('x'), shippingAddress: { name: 'a', street: 'b', postalCode: 'c', country: 'DE' } },
      ],
    ];
    for (const [path, body] of wrong) {
      const answer = await api.request('POST', '/v1/orders', { body });
      assert.equal(answer.status, 422, answer.text);
      assert.equal(answer.body.code, 'INVALID_REQUEST');
      assert.deepEqual(
        (answer.body.errors as Array<{ path: string }>).map((error) => error.path),
        [path],
      );
      assert.ok(answer.body.remedy && answer.body.detail && answer.body.title && answer.body.type);
    }
    const query = await api.request('GET', '/v1/orders?limit=1000');
    assert.equal((query.body.errors as Array<{ path: string }>)[0]?.path, '/querystring/limit');
  });

  it('tell what cannot be read at all', async () => {
    const send = (body: string, headers = {}) => api.request('POST', '/v1/orders', { body, headers });
    assert.equal((await send('{"a":')).status, 400);
    assert.equal((await send('{"__proto__":{}}')).status, 400);
    assert.equal((await send('a=b', { 'content-type': 'application/x-www-form-urlencoded' })).status, 415);
    assert.equal((await send(JSON.stringify({ a: 'x'.repeat(70_000) }))).status, 413);
    assert.equal((await api.request('POST', '/v1/orders')).status, 422);
    assert.equal((await api.request('GET', '/v1/nowhere')).body.code, 'NOT_FOUND');
    assert.equal((await api.request('GET', '/v1/orders/%ZZ')).status, 400);
  });

  it('carry the request’s id', async () => {
    const { body, headers } = await api.request('GET', '/v1/orders/none', {
      headers: { 'x-request-id': 'my-request' },
    });
    assert.equal(headers['x-request-id'], 'my-request');
    assert.equal(body.instance, 'urn:ferry:request:my-request');
    const forged = await api.request('GET', '/livez', { headers: { 'x-request-id': 'a b{}' } });
    assert.notEqual(forged.headers['x-request-id'], 'a b{}');
  });
});

describe('Idempotency-Key', () => {
  it('is required on every POST', async () => {
    for (const path of ['/v1/orders', '/v1/events', `/v1/orders/${randomUUID()}/cancel`]) {
      const answer = await writesNothing(() => api.request('POST', path, { body: {}, idempotencyKey: null }));
      assert.equal(answer.status, 400, path);
      assert.equal(answer.body.code, 'IDEMPOTENCY_KEY_MISSING');
    }
  });

  it('gives the first answer again, byte for byte, and does nothing', async () => {
    const body = orderOf(await api.customer('100.00'));
    const idempotencyKey = randomUUID();
    const first = await api.request('POST', '/v1/orders', { body, idempotencyKey });
    assert.equal(first.status, 201, first.text);
    assert.equal(first.headers['idempotency-replayed'], undefined);
    // the same document, written in another order of its names, and the key as a structured-field string
    const reordered = Object.fromEntries(Object.entries(body).reverse());
    const again = await writesNothing(() =>
      api.request('POST', '/v1/orders', { body: reordered, idempotencyKey: `"${idempotencyKey}"` }),
    );
    assert.equal(again.headers['idempotency-replayed'], 'true');
    assert.equal(again.status, 201);
    assert.equal(again.text, first.text);
    assert.equal(again.headers.location, first.headers.location);
    assert.match(String(again.headers['content-type']), /^application\/json/);
  });

  it('gives a refusal of the business again, and lets a failure that may pass be tried anew', async () => {
    const customerId = await api.customer('10.00');
    const idempotencyKey = randomUUID();
    const place = () => api.request('POST', '/v1/orders', { body: orderOf(customerId), idempotencyKey });
    const refused = await place();
    assert.equal(refused.body.code, 'BUSINESS_RULE');
    await api.request('PUT', `/v1/customers/${customerId}`, { body: { currency: 'EUR', creditLimit: '50.00' } });
    const again = await writesNothing(place);
    assert.equal(again.text, refused.text);
    assert.equal(again.headers['idempotency-replayed'], 'true');
    assert.match(String(again.headers['content-type']), /^application\/problem\+json/);

    const retried = randomUUID();
    const unknown = { ...cancelled('1'), type: 'commerce.Unheard' };
    assert.equal((await api.request('POST', '/v1/events', { body: unknown, idempotencyKey: retried })).status, 422);
    assert.equal(
      (await api.request('POST', '/v1/events', { body: cancelled('1'), idempotencyKey: retried })).status,
      201,
    );
  });

  it('refuses another body, or another address, under the same key', async () => {
    const customerId = await api.customer('100.00');
    const idempotencyKey = randomUUID();
    const placed = await api.request('POST', '/v1/orders', { body: orderOf(customerId), idempotencyKey });
    assert.equal(placed.status, 201);
    const other = await writesNothing(() =>
      api.request('POST', '/v1/orders', { body: orderOf(customerId, '11.00'), idempotencyKey }),
    );
    assert.equal(other.status, 422);
    assert.equal(other.body.code, 'IDEMPOTENCY_KEY_REUSED');

    const second = await api.request('POST', '/v1/orders', { body: orderOf(customerId) });
    const key = randomUUID();
    const cancel = (id: unknown) => api.request('POST', `/v1/orders/${id}/cancel`, { body: {}, idempotencyKey: key });
    assert.equal((await cancel(placed.body.id)).status, 200);
    assert.equal((await cancel(second.body.id)).body.code, 'IDEMPOTENCY_KEY_REUSED');
  });

  it('belongs to who uses it and for what', async () => {
    const customerId = await api.customer('100.00');
    const idempotencyKey = randomUUID();
    const asWriter = await api.request('POST', '/v1/orders', {
      as: 'writer',
      body: orderOf(customerId),
      idempotencyKey,
    });
    const asAdmin = await api.request('POST', '/v1/orders', { as: 'admin', body: orderOf(customerId), idempotencyKey });
    assert.deepEqual([asWriter.status, asAdmin.status], [201, 201]);
    assert.notEqual(asWriter.body.id, asAdmin.body.id);
    const event = await api.request('POST', '/v1/events', { as: 'writer', body: cancelled('1'), idempotencyKey });
    assert.equal(event.status, 201, event.text);
  });

  it('makes one order of many requests at once, and keeps nobody waiting', async () => {
    const customerId = await api.customer('1000.00');
    const idempotencyKey = randomUUID();
    const blocker = await api.pool.connect();
    await blocker.query('begin');
    await blocker.query('select 1 from commerce.customers where id = $1 for update', [customerId]);
    const requests = Array.from({ length: 10 }, () =>
      api.request('POST', '/v1/orders', { body: orderOf(customerId), idempotencyKey }),
    );
    // Nine are answered while the first still waits for the blocker: none of them waits for it.
    const answered: number[] = [];
    const nine = Promise.withResolvers<void>();
    for (const request of requests) {
      void request.then(({ status }) => {
        answered.push(status);
        if (answered.length === 9) nine.resolve();
      });
    }
    await nine.promise;
    assert.deepEqual(new Set(answered), new Set([409]));
    await blocker.query('rollback');
    blocker.release();
    const answers = await Promise.all(requests);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [201, ...Array(9).fill(409)]);
    const { rows } = await api.pool.query('select 1 from commerce.orders where customer_id = $1', [customerId]);
    assert.equal(rows.length, 1);
    const refused = answers.find(({ status }) => status === 409);
    assert.equal(refused?.body.code, 'IDEMPOTENCY_KEY_IN_USE');
    assert.equal(refused?.headers['retry-after'], '1');
  });

  it('is forgotten when its time is over, and never stands in the database as it is', async () => {
    const customerId = await api.customer('100.00');
    const idempotencyKey = `canary-${randomUUID()}`;
    const place = () => api.request('POST', '/v1/orders', { body: orderOf(customerId), idempotencyKey });
    const first = await place();
    const { rows } = await api.pool.query('select k::text as row from ferry.idempotency_key k');
    assert.ok(rows.length > 0);
    const hex = Buffer.from(idempotencyKey).toString('hex');
    for (const { row } of rows) assert.ok(!row.includes(idempotencyKey) && !row.includes(hex));
    await api.pool.query(`update ferry.idempotency_key set expires_at = now() - interval '1 second'`);
    const second = await place();
    assert.notEqual(second.body.id, first.body.id);
    assert.deepEqual((await place()).body, second.body);
  });
});

describe('POST /v1/events', () => {
  it('writes an event of any registered type, counted per aggregate', async () => {
    const aggregateId = randomUUID();
    const first = await api.request('POST', '/v1/events', { body: cancelled(aggregateId) });
    const second = await api.request('POST', '/v1/events', { body: cancelled(aggregateId) });
    assert.deepEqual([first.body.aggregateVersion, second.body.aggregateVersion], [1, 2]);
    const status = await api.request('GET', `/v1/events/${first.body.id}/status`, { as: 'viewer' });
    assert.deepEqual(status.body, { id: first.body.id, status: 'pending' });
    assert.equal(first.headers.location, `/v1/events/${first.body.id}/status`);
    assert.equal((await api.request('GET', '/v1/events/019a0000-0000-7000-8000-000000000000/status')).status, 404);
  });

  it('tells an event that never was from one whose day was taken out of the outbox', async () => {
    const statusOf = (id: string) => api.request('GET', `/v1/events/${id}/status`, { as: 'viewer' });
    await noteDroppedDay(stack.databaseUrl, 40);
    const [never, gone] = [await statusOf(idOfDay(41)), await statusOf(idOfDay(40))];
    assert.deepEqual([never.status, gone.status], [404, 404]);
    assert.match(String(never.body.detail), /no committed event/);
    assert.match(String(gone.body.detail), /taken out of the outbox/);
  });

  it('refuses what the schema refuses, with the field’s path and nothing written', async () => {
    const { status, body, text } = await writesNothing(() =>
      api.request('POST', '/v1/events', { body: cancelled('1', { total: 'canary' }) }),
    );
    assert.equal(status, 422);
    assert.equal(body.code, 'SCHEMA_MISMATCH');
    assert.match((body.errors as Array<{ path: string }>)[0]?.path ?? '', /\/total$/);
    assert.doesNotMatch(text, /canary/);
  });

  it('refuses ids that are not of about now, and characters that Postgres cannot store', async () => {
    const old = await writesNothing(() =>
      api.request('POST', '/v1/events', { body: { ...cancelled('1'), id: '01800000-0000-7000-8000-000000000000' } }),
    );
    assert.equal(old.body.code, 'EVENT_ID_INVALID');
    const zero = await writesNothing(() =>
      api.request('POST', '/v1/events', { body: cancelled('1', { note: '\u0000' }) }),
    );
    assert.equal(zero.body.code, 'INVALID_REQUEST', zero.text);
    const date = await api.request('POST', '/v1/events', {
      body: { ...cancelled('1'), occurredAt: '2026-02-31T25:00:00Z' },
    });
    assert.equal(date.status, 422, date.text);
  });

  it('refuses headers by which a client would speak for Ferry, and takes others', async () => {
    for (const name of ['ferry_saga_id', 'Ferry_Replay_Id', 'ce_id', 'ce_a/b']) {
      const headers = { tenant: 'blue', [name]: 'canary' };
      const { status, body, text } = await writesNothing(() =>
        api.request('POST', '/v1/events', { body: { ...cancelled('1'), headers } }),
      );
      assert.deepEqual([status, body.code], [422, 'INVALID_REQUEST'], name);
      const [problem] = body.errors as Array<{ path: string; message: string }>;
      assert.equal(problem?.path, `/headers/${name.replace('/', '~1')}`);
      assert.match(problem?.message ?? '', /give the header another name/);
      assert.doesNotMatch(text, /canary/);
    }
    const headers = { tenant: 'blue' };
    const { body } = await api.request('POST', '/v1/events', { body: { ...cancelled('1'), headers } });
    const { rows } = await api.pool.query('select headers from ferry.outbox where id = $1', [body.id]);
    assert.deepEqual(rows, [{ headers }]);
  });

  it('goes on with known schemas while the registry is away, and answers 503 for unknown ones', async () => {
    assert.equal((await api.request('POST', '/v1/events', { body: cancelled('1') })).status, 201);
    proxy.setMode('refuse');
    proxy.cut();
    try {
      assert.equal((await api.request('POST', '/v1/events', { body: cancelled('1') })).status, 201);
      const unknown = { ...cancelled('1'), type: 'commerce.NeverSeen' };
      const answer = await writesNothing(() => api.request('POST', '/v1/events', { body: unknown }));
      assert.equal(answer.status, 503, answer.text);
      assert.equal(answer.body.code, 'REGISTRY_UNAVAILABLE');
      assert.ok(Number(answer.headers['retry-after']) > 0);
    } finally {
      proxy.setMode('pass');
    }
  });

  it('takes an id once, and says so again when the request is repeated', async () => {
    const body = { ...cancelled('1'), id: v7() };
    assert.equal((await api.request('POST', '/v1/events', { body })).body.id, body.id);
    const idempotencyKey = randomUUID();
    const second = await api.request('POST', '/v1/events', { body, idempotencyKey });
    assert.deepEqual([second.status, second.body.code], [409, 'CONFLICT']);
    const again = await writesNothing(() => api.request('POST', '/v1/events', { body, idempotencyKey }));
    assert.equal(again.text, second.text);
    const { rows } = await api.pool.query('select 1 from ferry.audit where event_id = $1', [body.id]);
    assert.equal(rows.length, 1);
  });

  it('takes a tombstone', async () => {
    const { status, body } = await api.request('POST', '/v1/events', { body: { ...cancelled('1'), payload: null } });
    assert.equal(status, 201);
    const { rows } = await api.pool.query('select tombstone, payload from ferry.outbox where id = $1', [body.id]);
    assert.deepEqual(rows, [{ tombstone: true, payload: null }]);
  });
});

describe('probes', () => {
  it('tell the state of each part', async () => {
    const { status, body } = await api.request('GET', '/readyz', { as: null });
    assert.equal(status, 200);
    assert.deepEqual(body, {
      status: 'ok',
      parts: {
        postgres: { state: 'ok' },
        outbox: { state: 'ok', detail: 'partitions for 30 days ahead' },
        kafka: { state: 'ok' },
      },
    });
    assert.deepEqual((await api.request('GET', '/livez', { as: null })).body, { status: 'ok' });
  });

  it('are not ready when a part is down, and degraded when one should be looked at', async () => {
    let state: 'degraded' | 'down' = 'degraded';
    const other = await testApi(stack, { overrides: { parts: async () => ({ registry: { state } }) } });
    const degraded = await other.request('GET', '/readyz', { as: null });
    assert.deepEqual([degraded.status, degraded.body.status], [200, 'degraded']);
    state = 'down';
    const down = await other.request('GET', '/readyz', { as: null });
    assert.deepEqual([down.status, down.body.status], [503, 'down']);
  });

  it('show the metrics as text', async () => {
    const { headers, text } = await api.request('GET', '/metrics', { as: null });
    assert.match(String(headers['content-type']), /^text\/plain/);
    assert.equal(text, '# no metrics\n');
  });
});

describe('telemetry', () => {
  const TRACE = '0af7651916cd43dd8448eb211c80319c';

  it('carries the request’s trace into the outbox row', async () => {
    const telemetry = await startTelemetry({ LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }, { role: 'test' });
    after(() => telemetry.shutdown());
    const { tracer, metrics, metricsText } = telemetry;
    const traced = await testApi(stack, { overrides: { tracer, metrics, metricsText } });
    const traceparent = `00-${TRACE}-b7ad6b7169203331-01`;
    const { body } = await traced.request('POST', '/v1/events', {
      body: cancelled('traced'),
      headers: { traceparent },
    });
    const { rows } = await api.pool.query<{ traceparent: string }>(
      'select traceparent from ferry.outbox where id = $1',
      [body.id],
    );
    assert.match(rows[0]?.traceparent ?? '', new RegExp(`^00-${TRACE}-(?!b7ad6b7169203331)[0-9a-f]{16}-01$`));
    const { text } = await traced.request('GET', '/metrics', { as: null });
    assert.match(text, /ferry_http_request_duration_seconds_count\{[^}]*route="\/v1\/events"[^}]*\} 1/);
  });

  it('shows no value of a payload, a key or a header, whatever goes wrong', async () => {
    const lines: string[] = [];
    const destination = new Writable({
      write(line, _encoding, done) {
        lines.push(String(line));
        done();
      },
    });
    const logger = createLogger({ LOG_LEVEL: 'trace', LOG_FORMAT: 'json' }, { role: 'test', destination });
    const logged = await testApi(stack, { overrides: { logger } });
    const canary = 'canary7301';
    const noted = (note: string) => ({ ...cancelled('1', { note }), headers: { tenant: canary } });
    const bodies: unknown[] = [
      noted(canary),
      noted(`${canary}\u0000`),
      { ...noted(canary), occurredAt: '2026-02-31T25:00:00Z' },
      { ...noted(canary), aggregateId: 'x'.repeat(513) },
      cancelled('1', { total: canary }),
      { ...cancelled('1'), [canary]: canary },
      `{"type":"${canary}`,
    ];
    const statuses: number[] = [];
    for (const body of bodies) {
      const headers = { authorization: `Bearer ferry_${canary}` };
      await logged.request('POST', '/v1/events', { as: null, body, headers });
      const answer = await logged.request('POST', '/v1/events', {
        body,
        idempotencyKey: `${canary}-${statuses.length}`,
      });
      statuses.push(answer.status);
    }
    // An error that nobody foresaw, and whose text from Postgres quotes the row.
    await api.pool.query(`alter table ferry.audit add constraint planted check (action <> 'event.write') not valid`);
    try {
      statuses.push((await logged.request('POST', '/v1/events', { body: noted(canary) })).status);
    } finally {
      await api.pool.query('alter table ferry.audit drop constraint planted');
    }
    assert.deepEqual(statuses, [201, 422, 422, 422, 422, 422, 400, 500]);
    assert.ok(lines.length > 10);
    for (const line of lines) assert.doesNotMatch(line, new RegExp(canary));
  });
});
