/** A service in plain JavaScript: cancels an order, hears of it, and reads what it has written itself. Run by package.test.ts. */
import { consume, openReadGate } from 'ferry/inbox';
import { currentPosition, emit, migrate } from 'ferry/outbox';
import pg from 'pg';

const { DATABASE_URL, GROUP: group, TOPIC: topic, ORDERS_TABLE: table } = process.env;
const orderId = '01a2014f-c630-75e2-87b0-5cc845ceec01';

await migrate();
const client = new pg.Client({ connectionString: DATABASE_URL });
await client.connect();
await client.query(`create table ${table} (order_id text primary key, event_id uuid)`);

const consumer = consume({
  group,
  topics: [topic],
  handlers: {
    'commerce.OrderCancelled': async (event, tx) => {
      if (event.value.orderId !== orderId) return;
      await tx.query(`insert into ${table} values ($1, $2)`, [event.value.orderId, event.id]);
    },
  },
});
const gate = openReadGate({ group, topics: [topic] });

await client.query('begin');
const id = await emit(client, {
  aggregateType: 'order',
  aggregateId: orderId,
  type: 'commerce.OrderCancelled',
  payload: {
    orderId,
    customerId: 'ada',
    reason: 'CUSTOMER_REQUEST',
    currency: 'EUR',
    total: '9.00',
    cancelledAt: new Date().toISOString(),
  },
});
await client.query('commit');

const waited = await gate.untilApplied({ position: await currentPosition(client), timeoutMs: 60_000 });
const { rows: seen } = await client.query(`select order_id, event_id from ${table}`);
await gate.close();
await consumer.stop();
await client.end();
console.log(JSON.stringify({ id, waited, seen }));
