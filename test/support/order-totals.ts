/** The projection of orders per customer, as its consumer keeps it and as SQL computes it from the outbox: the one must equal the other. */
import assert from 'node:assert/strict';
import type { Queryable } from '../../src/postgres/connection.ts';

export async function keptTotals(db: Queryable): Promise<object[]> {
  return (await db.query(`${KEPT} order by 1, 2`)).rows;
}

/** Fails with some of the rows that only one of the two has. */
export async function assertTotalsEqualLedger(db: Queryable): Promise<void> {
  const difference = (one: string, other: string) => `((${one}) except (${other}) order by 1, 2 limit 3)`;
  const { rows } = await db.query(
    `select 'not in the ledger' as found, * from ${difference(KEPT, LEDGER)} as kept
     union all select 'not kept', * from ${difference(LEDGER, KEPT)} as ledger`,
  );
  assert.deepEqual(rows, []);
}

const KEPT = `select customer_id as customer, currency, placed, cancelled, placed_total, cancelled_total
  from commerce.orders_per_customer`;
const LEDGER = `select payload->>'customerId' as customer, payload->>'currency' as currency,
  count(*) filter (where type = 'commerce.OrderPlaced') as placed,
  count(*) filter (where type = 'commerce.OrderCancelled') as cancelled,
  coalesce(sum((payload->>'total')::numeric) filter (where type = 'commerce.OrderPlaced'), 0) as placed_total,
  coalesce(sum((payload->>'total')::numeric) filter (where type = 'commerce.OrderCancelled'), 0) as cancelled_total
  from ferry.outbox where type in ('commerce.OrderPlaced', 'commerce.OrderCancelled') group by 1, 2`;
