/** The same service in TypeScript, with the types that the package brings. Run and compiled by package.test.ts. */
import { type ConsumeOptions, consume, openReadGate, upsertLatest } from 'ferry/inbox';
import { currentPosition, type EventId, type EventPayloads, emit, migrate } from 'ferry/outbox';
import pg from 'pg';

const { DATABASE_URL, GROUP: group = '', TOPIC: topic = '', ORDERS_TABLE: table = '' } = process.env;
const orderId = '01a2014f-c630-75e2-87b0-5cc845ceec02';

await migrate();
const client = new pg.Client({ connectionString: DATABASE_URL });
await client.connect();
await client.query(`create table ${table} (order_id text primary key, event_id uuid, version bigint)`);

const handlers: ConsumeOptions['handlers'] = {
  'commerce.OrderCancelled': async ({ id, value, aggregateVersion }, tx) => {
    if (value === null || value.orderId !== orderId) return;
    await upsertLatest(tx, {
      table,
      key: { order_id: value.orderId },
      version: aggregateVersion,
      values: { event_id: id },
    });
  },
};
await using consumer = consume({ group, topics: [topic], handlers });
await using gate = openReadGate({ group, topics: [topic] });
consumer.resume();

const payload: EventPayloads['commerce.OrderCancelled'] = {
  orderId,
  customerId: 'ada',
  reason: 'CUSTOMER_REQUEST',
  currency: 'EUR',
  total: '9.00',
  cancelledAt: new Date().toISOString(),
};
await client.query('begin');
const id: EventId = await emit(client, {
  aggregateType: 'order',
  aggregateId: orderId,
  aggregateVersion: 'next',
  type: 'commerce.OrderCancelled',
  payload,
});
await client.query('commit');

const waited = await gate.untilApplied({ position: await currentPosition(client), timeoutMs: 60_000 });
const { rows: seen } = await client.query(`select order_id, event_id from ${table}`);
await client.end();
console.log(JSON.stringify({ id, waited, seen }));
