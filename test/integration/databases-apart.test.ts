/**
 * Participants with a database of their own each: their own outbox, relay, inbox and stock, beside a main database that still has their empty
 * tables from before. Orders are fulfilled and undone through four relays, one of which is killed; then everything is counted over all databases.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { outboxesOf } from '../../src/cli/demo/proof.ts';
import { isFulfilled, moduleDatabases, proveSagas } from '../../src/cli/demo/saga-proof.ts';
import { type EventLog, openEventLog } from '../../src/cli/event-log.ts';
import { migrateDatabases } from '../../src/cli/migrate-command.ts';
import { readSlotStatus } from '../../src/cli/relay-status.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { type DatabaseName, databasesOf } from '../../src/config/databases.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createApiKey } from '../../src/domain/access/api-key.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import { findSagaOfKey } from '../../src/ops/sagas.ts';
import { Pools } from '../../src/postgres/pools.ts';
import { countEvents } from '../../src/reconcile/count.ts';
import { isSound } from '../../src/reconcile/integrity.ts';
import { testPaymentProvider } from '../support/payment-provider.ts';
import { FerryProcess } from '../support/processes.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const provider = await testPaymentProvider();
const environment: Readonly<Record<string, string>> = {
  ...stack.environment,
  PAYMENT_DATABASE_URL: await stack.createDatabase({ empty: true }),
  INVENTORY_DATABASE_URL: await stack.createDatabase({ empty: true }),
  SHIPPING_DATABASE_URL: await stack.createDatabase({ empty: true }),
  PAYMENT_PROVIDER_URL: provider.url,
  RELAY_HEARTBEAT_INTERVAL_MS: '200',
  CONSUMER_SESSION_TIMEOUT_MS: '6000',
};
const config = loadConfig(environment);
const databases = databasesOf(config);
const pools = new Pools({ databases, applicationName: 'ferry-test', settings: () => ({ max: 4 }) });
const outboxes = outboxesOf(pools);
/** The machine of the tests may be busy. */
const PATIENT = { deadlineMs: 180_000 };

/** Those who only work with payment's database know of no other. */
const { DATABASE_URL: _, INVENTORY_DATABASE_URL: __, SHIPPING_DATABASE_URL: ___, ...paymentEnvironment } = environment;

const roles = 'api,projection,sagas,order,inventory,shipping,relay:main,relay:inventory,relay:shipping';
const service = new FerryProcess({ roles, env: environment });
const payment = new FerryProcess({ roles: 'payment', env: paymentEnvironment });
const paymentRelay = new FerryProcess({ roles: 'relay:payment', env: paymentEnvironment });
let events: EventLog;
let url: string;
let key: string;

before(async () => {
  await migrateDatabases(config);
  await pushAllSchemas(config);
  key = await createApiKey(pools.of('main'), { name: 'apart', role: 'admin' });
  events = await openEventLog(config);
  for (const process of [service, payment, paymentRelay]) process.start();
  const listening = await service.waitForLog(
    'listening',
    ({ msg }) => /listening at http/.test(msg),
    PATIENT.deadlineMs,
  );
  url = /http:\/\/\S+/.exec(listening.msg)?.[0] ?? '';
  await call('PUT', '/v1/customers/ada', { currency: 'EUR', creditLimit: '1000000.00' });
});
after(async () => {
  await Promise.all([service, payment, paymentRelay].map((process) => process.kill()));
  await events.close();
  await pools.end();
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

async function call(
  method: string,
  path: string,
  body?: object,
  idempotencyKey: string = randomUUID(),
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(method === 'POST' ? { 'idempotency-key': idempotencyKey } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer['body'] };
}

async function placeOrder(sku: string, quantity: number): Promise<string> {
  const order = { customerId: 'ada', currency: 'EUR', lines: [{ sku, quantity, unitPrice: '2.50' }] };
  const { status, body } = await call('POST', '/v1/orders', order);
  assert.equal(status, 201, JSON.stringify(body));
  return String(body.id);
}

async function untilEnded(orderId: string): Promise<unknown> {
  const end = async () => {
    const { body } = await call('GET', `/v1/orders/${orderId}`);
    return body.status === 'completed' || body.status === 'cancelled' ? body.status : null;
  };
  return waitUntil(`order ${orderId} ending`, end, PATIENT);
}

async function countOf(database: DatabaseName, table: string): Promise<number> {
  const { rows } = await pools.of(database).query<{ count: number }>(`select count(*)::int as count from ${table}`);
  return rows[0]?.count ?? 0;
}

async function pendingOf(database: DatabaseName): Promise<number> {
  const outbox = outboxes.find((one) => one.database === database) ?? assert.fail();
  return (await readSlotStatus(outbox.pool, outbox.relay)).pending;
}

/** Every event of every outbox is in Kafka once, every order is done or undone, and money and stock agree. */
async function assertAllCounts(): Promise<void> {
  for (const { database } of outboxes) {
    await waitUntil(
      `the outbox of ${database} being published`,
      async () => (await pendingOf(database)) === 0,
      PATIENT,
    );
  }
  const pool = outboxes.map((outbox) => outbox.pool);
  const report = await countEvents({ ...events, outboxes: pool, routes: topicRoutes(config) });
  assert.ok(isSound(report), JSON.stringify(report));
  assert.deepEqual([report.published, report.deadLettered], [report.outboxRows, 0]);
  const sagas = await proveSagas(moduleDatabases(databases, pools), await provider.charges());
  assert.ok(isFulfilled(sagas), JSON.stringify(sagas));
}

function ferry(...args: string[]) {
  const env = { ...process.env, ...environment };
  return spawnSync(process.execPath, ['src/main.ts', ...args], { env, encoding: 'utf8' });
}

describe('participants with a database of their own', () => {
  test('take stock in where inventory keeps it, once a key, with its audit row', async () => {
    const idempotencyKey = randomUUID();
    const take = () => call('POST', '/v1/stock/TEA/receipts', { quantity: 500 }, idempotencyKey);
    const [first, again] = [await take(), await take()];
    assert.deepEqual([first.status, first.body.available], [200, 500]);
    assert.deepEqual([again.status, again.body, again.headers.get('idempotency-replayed')], [200, first.body, 'true']);
    assert.equal(first.headers.get('ferry-position'), null, 'a position of another WAL than the main one');
    assert.equal((await call('GET', '/v1/stock/TEA')).body.received, 500);
    const { rows } = await pools.of('inventory').query('select action from ferry.audit');
    assert.deepEqual(rows, [{ action: 'stock.receive' }]);
    assert.deepEqual(
      [await countOf('inventory', 'ferry.idempotency_key'), await countOf('main', 'inventory.stock')],
      [1, 0],
    );
  });

  test('fulfil one order and undo another, each from its own database', async () => {
    const [done, undone] = [await placeOrder('TEA', 4), await placeOrder('TEA', 900)];
    assert.deepEqual([await untilEnded(done), await untilEnded(undone)], ['completed', 'cancelled']);
    const saga = await findSagaOfKey(pools.of('main'), 'fulfilment', done);
    const { status, body } = await call('GET', `/v1/sagas/${saga?.id}`);
    assert.equal(status, 200, 'the saga is read from the main database alone');
    assert.ok((body.history as unknown[]).length > 10);
    for (const [database, table] of [
      ['payment', 'payment.payments'],
      ['inventory', 'inventory.reservations'],
      ['shipping', 'shipping.shipments'],
    ] as const) {
      assert.ok((await countOf(database, table)) > 0, table);
      assert.ok((await countOf(database, 'ferry.outbox')) > 0, `the outbox of ${database}`);
      assert.equal(await countOf('main', table), 0, `${table} of the main database`);
    }
    await assertAllCounts();
  });

  test('have their replies shown with the saga', async () => {
    const orderId = await placeOrder('TEA', 1);
    await untilEnded(orderId);
    const saga = await findSagaOfKey(pools.of('main'), 'fulfilment', orderId);
    const shown = JSON.parse(ferry('sagas', 'show', saga?.id ?? '', '--offsets', '--json').stdout);
    const events = new Map<string, { id: string; type: string }>();
    for (const { event } of shown.history) if (event !== null) events.set(event.type, event);
    for (const type of ['CapturePayment', 'PaymentCaptured', 'StockIssued', 'ShipmentHandedOver']) {
      const event = events.get(`commerce.${type}`) ?? assert.fail(type);
      assert.match(shown.records[event.id].offset, /^\d+$/, type);
    }
  });

  test('are the only ones who write events of theirs', async () => {
    const event = { aggregateType: 'payment', aggregateId: randomUUID(), type: 'commerce.PaymentFailed', payload: {} };
    const { status, body } = await call('POST', '/v1/events', event);
    assert.deepEqual([status, body.code], [422, 'INVALID_REQUEST']);
    assert.match(String(body.detail), /database of payment/);
  });

  test('get no relay where their address leads to the main database by another text', async () => {
    const alias = stack.databaseUrl.replace('postgres:', 'postgresql:');
    const wrong = new FerryProcess({ roles: 'relay:shipping', env: { ...environment, SHIPPING_DATABASE_URL: alias } });
    wrong.start();
    const { err } = await wrong.waitForLog(
      'the refusal',
      ({ msg }) => /refuses to go on/.test(msg),
      PATIENT.deadlineMs,
    );
    const { code, message } = err as { code: string; message: string };
    assert.equal(code, 'RELAY_CONFIGURATION');
    assert.match(message, /^SHIPPING_DATABASE_URL leads to a database that is not shipping's own/);
    await wrong.exited();
    const { rows } = await pools.of('main').query('select relay from ferry.relay_epoch');
    assert.deepEqual(rows, [{ relay: stack.relayName }]);
  });

  test('lose and repeat nothing when the relay of one is killed in the middle', async () => {
    const orders: string[] = [];
    const place = async (count: number) => {
      for (let n = 0; n < count; n++) orders.push(await placeOrder('TEA', (orders.length % 3) + 1));
    };
    for (const failPoint of [undefined, 'after-send:3', 'after-end-txn:3']) {
      const meanwhile = place(7);
      if (failPoint === undefined) await paymentRelay.kill();
      else await paymentRelay.exited();
      await meanwhile;
      await place(7); // payment goes on answering while its relay is away: its answers wait in its outbox
      await waitUntil('answers waiting', async () => (await pendingOf('payment')) > 0, PATIENT);
      const next = { undefined: 'after-send:3', 'after-send:3': 'after-end-txn:3', 'after-end-txn:3': null }[
        `${failPoint}`
      ];
      paymentRelay.start(next == null ? {} : { FERRY_FAIL_POINT: next });
    }
    for (const order of orders) await untilEnded(order);
    await assertAllCounts();
  });

  test('undo a step that was skipped while they were away, as often as it is asked, before the saga goes on', async () => {
    await payment.kill();
    const orderId = await placeOrder('TEA', 900);
    const main = pools.of('main');
    const started = () => findSagaOfKey(main, 'fulfilment', orderId);
    const saga = (await waitUntil('the saga beginning', started, PATIENT)) ?? assert.fail();
    const skipped = await call('POST', `/v1/ops/sagas/${saga.id}/skip`, { reason: 'payment is away for long' });
    assert.deepEqual([skipped.body.state, skipped.body.step], ['running', 'payment'], JSON.stringify(skipped.body));
    const timeOut = async () => {
      await main.query('update ferry.saga set due_at = now() where id = $1 and tries = 1', [saga.id]);
      return (await started())?.tries === 2;
    };
    await waitUntil('the undo being asked for again', timeOut, PATIENT);
    payment.start();
    await waitUntil('the saga ending', async () => (await started())?.state === 'compensated', PATIENT);
    const { rows } = await main.query<{ step: string; sent: string }>(
      `select step, string_agg(purpose || ' ' || attempt, ', ' order by id) as sent from ferry.saga_history
       where saga_id = $1 and cause in ('command', 'timeout') and purpose is not null group by step order by min(id)`,
      [saga.id],
    );
    assert.deepEqual(
      rows.map(({ step, sent }) => `${step}: ${sent}`),
      ['payment: do 1, undo 1, undo 2', 'inventory: do 1', 'order: undo 1'],
    );
    await assertAllCounts();
  });

  test('have a relay that is shown and reset by itself', async () => {
    const status = JSON.parse(ferry('status', '--json').stdout);
    assert.deepEqual(Object.keys(status.databases), ['payment', 'inventory', 'shipping']);
    assert.equal(status.databases.payment.relay.state, 'streaming');
    assert.equal(status.databases.payment.relay.slot, `ferry_${stack.relayName}_payment`);
    assert.equal(status.databases.payment.counts.outboxRows, await countOf('payment', 'ferry.outbox'));

    const running = ferry('relay', 'reset', '--database', 'payment', '--reason', 'test');
    assert.match(running.stderr, /stop it first/);
    await paymentRelay.stop();
    const reset = ferry('relay', 'reset', '--database', 'payment', '--reason', 'test', '--json');
    assert.deepEqual(JSON.parse(reset.stdout), { relay: `${stack.relayName}_payment`, epoch: 2 });
    paymentRelay.start();
    await untilEnded(await placeOrder('TEA', 1));
    await assertAllCounts();
  });
});
