/** The projection of orders per customer, as its consumer keeps it and as SQL computes it from the outbox: the one must equal the other. */
import assert from 'node:assert/strict';
import type { Queryable } from '../../src/postgres/connection.ts';

export async function keptTotals(db: Queryable): Promise<object[]> {
  return (await db.query(KEPT)).rows;
}

export async function assertTotalsEqualLedger(db: Queryable): Promise<void> {
  assert.deepEqual(await keptTotals(db), (await db.query(EXPECTED)).rows);
}

const EXPECTED = `select payload->>'customerId' as customer, payload->>'currency' as currency,
  count(*) filter (where type = 'commerce.OrderPlaced')::int as placed,
  count(*) filter (where type = 'commerce.OrderCancelled')::int as cancelled,
  coalesce(sum((payload->>'total')::numeric) filter (where type = 'commerce.OrderPlaced'), 0)::text as placed_total,
  coalesce(sum((payload->>'total')::numeric) filter (where type = 'commerce.OrderCancelled'), 0)::numeric(20, 2)::text as cancelled_total
  from ferry.outbox group by 1, 2 order by 1, 2`;
const KEPT = `select customer_id as customer, currency, placed::int, cancelled::int, placed_total::text, cancelled_total::text
  from commerce.orders_per_customer order by 1, 2`;
