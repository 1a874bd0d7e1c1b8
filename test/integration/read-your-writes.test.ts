/**
 * Read your writes on real parts: whoever brings the position of a write reads no less than they wrote, whatever is slow or away; who waits
 * in vain is told so in time.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { startService } from '../../src/app/service.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import type { RunningService } from '../../src/cli/service.ts';
import type { Config } from '../../src/config/variables.ts';
import { createApiKey } from '../../src/domain/access/api-key.ts';
import { relayChannel } from '../../src/events/relay-channel.ts';
import { createKafka, kafkaOptions } from '../../src/kafka/client.ts';
import { GroupProgress } from '../../src/kafka/group-progress.ts';
import { withDeadline } from '../../src/kernel/deadline.ts';
import { parseLsn } from '../../src/kernel/lsn.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { SerialClient } from '../../src/postgres/serial-client.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { Signal } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
// Regular heartbeats would hide a gate that does not ask for its own.
const config = { ...stack.config, LOG_LEVEL: 'silent', RELAY_HEARTBEAT_INTERVAL_MS: 60_000 } as const;
const kafka = kafkaOptions(config, 'read-your-writes-test', createLogger(config, { role: 'test' }));
const topic = `${config.TOPIC_PREFIX}commerce.order`;
const groupId = `${config.TOPIC_PREFIX}orders-per-customer`;

type Headers = Readonly<Record<string, string>>;

interface Answer {
  readonly status: number;
  readonly headers: globalThis.Headers;
  readonly body: Record<string, unknown>;
}

const services = new Map<Config['FERRY_ROLES'], RunningService>();
let apiKey = '';

async function start(role: string, changes: Partial<Config> = {}): Promise<RunningService> {
  const service = await startService({ ...config, FERRY_ROLES: role, ...changes });
  services.set(role, service);
  return service;
}

async function stop(role: string): Promise<void> {
  await services.get(role)?.stop();
  services.delete(role);
}

async function call(method: string, path: string, { headers = {}, body }: { headers?: Headers; body?: unknown } = {}) {
  return callAt(services.get('api')?.httpUrl ?? '', method, path, { headers, body });
}

async function callAt(
  url: string,
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Headers; body?: unknown } = {},
): Promise<Answer> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${apiKey}`,
      ...(method === 'POST' ? { 'idempotency-key': randomUUID() } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer['body'] };
}

/** A fresh customer; resolves with its id and the position of its making. */
async function customer(): Promise<{ id: string; position: string }> {
  const id = `c-${randomUUID()}`;
  const answer = await call('PUT', `/v1/customers/${id}`, { body: { currency: 'EUR', creditLimit: '1000000.00' } });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return { id, position: positionOf(answer) };
}

/** Places an order over 10.00; resolves with its position. */
async function order(customerId: string): Promise<string> {
  const lines = [{ sku: 'TEA-1', quantity: 2, unitPrice: '5.00' }];
  const answer = await call('POST', '/v1/orders', { body: { customerId, currency: 'EUR', lines } });
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return positionOf(answer);
}

function positionOf({ headers }: Answer): string {
  const position = headers.get('ferry-position');
  assert.ok(position !== null, 'the answer of a write has no position');
  return position;
}

const read = (customerId: string, headers: Headers = {}) =>
  call('GET', `/v1/customers/${customerId}/order-totals`, { headers });

function placed({ status, body }: Answer): number {
  assert.equal(status, 200, JSON.stringify(body));
  const [totals] = body.totals as Array<{ placed: number }>;
  return totals?.placed ?? 0;
}

function assertBehind(answer: Answer, reason: RegExp): void {
  assert.equal(answer.status, 503, JSON.stringify(answer.body));
  assert.deepEqual([answer.body.code, answer.body.retryable], ['PROJECTION_BEHIND', true]);
  assert.match(String(answer.headers.get('content-type')), /problem\+json/);
  assert.match(String(answer.headers.get('retry-after')), /^[1-9]\d*$/);
  assert.match(String(answer.body.detail), reason);
}

before(async () => {
  await pushAllSchemas(config);
  const pool = createPool(config, 'read-your-writes-test', { max: 1 });
  apiKey = await createApiKey(pool, { name: 'test', role: 'admin' });
  await pool.end();
  for (const role of ['api', 'relay', 'projection']) await start(role);
});
after(async () => {
  for (const role of services.keys()) await stop(role);
});

describe('a read that brings a position', () => {
  test('does not wait for a topic that nothing was ever published to', async () => {
    const { id, position } = await customer();
    const answer = await read(id, { 'ferry-position': position, prefer: 'wait=30' });
    assert.deepEqual(answer.body, { customerId: id, totals: [] });
    assert.equal(answer.headers.get('preference-applied'), 'wait=30');
  });

  test('never sees less than was written; one without sometimes does', async () => {
    let stale = 0;
    const writeAndRead = async () => {
      const { id } = await customer();
      for (let written = 1; written <= 20; written++) {
        const position = await order(id);
        if (placed(await read(id)) < written) stale += 1;
        const answer = await read(id, { 'ferry-position': position, prefer: 'wait=30' });
        assert.equal(placed(answer), written);
        assert.equal(answer.headers.get('ferry-stale'), null);
      }
    };
    await Promise.all(Array.from({ length: 10 }, writeAndRead));
    assert.ok(stale > 0, 'the projection is never behind: this test shows nothing');
  });

  test('is answered at once when all that follows the last event is marks of transactions', async () => {
    const { id } = await customer();
    const position = await order(id);
    const producer = createKafka(kafka).producer({ transactionalId: `${topic}.aborting`, maxInFlightRequests: 1 });
    await producer.connect();
    const aborted = await producer.transaction();
    const messages = Array.from({ length: 6 }, (_, partition) => ({ partition, key: id, value: 'never committed' }));
    await aborted.send({ topic, messages });
    await aborted.abort();
    await producer.disconnect();
    assert.equal(placed(await read(id, { 'ferry-position': position, prefer: 'wait=30' })), 1);

    const progress = await GroupProgress.open({ kafka, groupId, topics: [topic] });
    const [ends, committed] = [await progress.ends(), await progress.committed()];
    const behind = ends.filter(({ partition, to }) => (committed.get(`${topic}/${partition}`) ?? 0n) < to);
    assert.ok(behind.length > 0, 'the group commits the marks too: this test shows nothing');
    assert.equal(await progress.hasReached(ends, committed), true);
    await progress.close();
  });

  test('is refused when it is no position, naming the header', async () => {
    const { id } = await customer();
    for (const garbage of ['', '0', 'G/0', '0/123456789', '0/1, 0/2', '-1/0']) {
      const { status, body } = await read(id, { 'ferry-position': garbage });
      assert.equal(status, 422, garbage);
      assert.match(String(body.detail), /headers\/ferry-position/);
    }
    assert.equal((await read(id, { 'ferry-allow-stale': 'perhaps' })).status, 422);
  });

  test('is told that a position of the future is not there, in the time that it would wait', async () => {
    const { id } = await customer();
    for (const prefer of ['wait=0', 'wait=1', '']) {
      const answer = await read(id, { 'ferry-position': 'FFFFFFFF/FFFFFFFF', prefer });
      assertBehind(answer, /FFFFFFFF\/FFFFFFFF .*relay/);
    }
    const stale = await read(id, { 'ferry-position': 'FFFFFFFF/0', 'ferry-allow-stale': 'true', prefer: 'wait=0' });
    assert.deepEqual([stale.status, stale.headers.get('ferry-stale')], [200, 'true']);
  });
});

describe('while a part is away', () => {
  for (const { role, reason } of [
    { role: 'projection', reason: /consumers have not come that far/ },
    { role: 'relay', reason: /relay has not told/ },
  ]) {
    test(`a read waits for the ${role}, or says so, or is marked as stale`, async () => {
      const { id } = await customer();
      await read(id, { 'ferry-position': await order(id), prefer: 'wait=30' });
      await stop(role);
      const position = { 'ferry-position': await order(id) };
      assertBehind(await read(id, { ...position, prefer: 'wait=1' }), reason);
      const stale = await read(id, { ...position, prefer: 'wait=1', 'ferry-allow-stale': 'true' });
      assert.deepEqual([placed(stale), stale.headers.get('ferry-stale')], [1, 'true']);
      assert.equal(placed(await read(id)), 1);

      const waiting = read(id, { ...position, prefer: 'wait=30', 'ferry-allow-stale': 'true' });
      await start(role);
      const answer = await waiting;
      assert.deepEqual([placed(answer), answer.headers.get('ferry-stale')], [2, null]);
    });
  }

  test('a Kafka that cannot be asked is answered as a projection that is behind', async () => {
    const { id } = await customer();
    const position = { 'ferry-position': await order(id), prefer: 'wait=1' };
    await read(id, { ...position, prefer: 'wait=30' });
    const deaf = await startService({ ...config, FERRY_ROLES: 'api', KAFKA_BROKERS: '127.0.0.1:1' });
    const url = deaf.httpUrl ?? '';
    const path = `/v1/customers/${id}/order-totals`;
    assertBehind(await callAt(url, 'GET', path, { headers: position }), /cannot be told/);
    const stale = await callAt(url, 'GET', path, { headers: { ...position, 'ferry-allow-stale': 'true' } });
    assert.deepEqual([placed(stale), stale.headers.get('ferry-stale')], [1, 'true']);
    assert.equal(placed(await callAt(url, 'GET', path)), 1);
    await deaf.stop();
  });

  test('a server that stops does not wait for those that it holds back', async () => {
    const { id } = await customer();
    const other = await startService({ ...config, FERRY_ROLES: 'api' });
    const path = `/v1/customers/${id}/order-totals`;
    const headers = { 'ferry-position': 'FFFFFFFF/0', prefer: 'wait=30' };
    const hearing = new Signal();
    const relay = await SerialClient.connect(config, 'read-your-writes-test', (error) => hearing.fail(error));
    await relay.listen(relayChannel(config.RELAY_NAME), () => hearing.fire());
    let ended = false;
    const held = callAt(other.httpUrl ?? '', 'GET', path, { headers }).finally(() => {
      ended = true;
    });
    await hearing.wait('the read asking for a heartbeat');
    await relay.end();
    assert.equal(ended, false);
    await withDeadline('the server stopping before the read’s own end', 20_000, other.stop());
    assertBehind(await held, /not applied/);
  });
});

describe('a write', () => {
  test('tells a position also when it is repeated, one that covers what it did', async () => {
    const { id } = await customer();
    const body = { customerId: id, currency: 'EUR', lines: [{ sku: 'TEA-1', quantity: 1, unitPrice: '1.00' }] };
    const headers = { 'idempotency-key': randomUUID() };
    const first = await call('POST', '/v1/orders', { headers, body });
    const again = await call('POST', '/v1/orders', { headers, body });
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.ok(parseLsn(positionOf(again)) >= parseLsn(positionOf(first)));
    const event = { aggregateType: 'order', aggregateId: id, type: 'commerce.OrderPlaced', payload: null };
    const written = await call('POST', '/v1/events', { body: event });
    assert.ok(parseLsn(positionOf(written)) > parseLsn(positionOf(first)));
  });

  test('that was refused tells none', async () => {
    const { id } = await customer();
    const body = { customerId: id, currency: 'USD', lines: [{ sku: 'TEA-1', quantity: 1, unitPrice: '1.00' }] };
    const headers = { 'idempotency-key': randomUUID() };
    for (let time = 0; time < 2; time++) {
      const refused = await call('POST', '/v1/orders', { headers, body });
      assert.deepEqual([refused.status, refused.headers.get('ferry-position')], [422, null]);
    }
  });
});
