/**
 * What the demo proves of the fulfilments: every one has ended, done or undone; the money in the ledger sums to zero and agrees with what the
 * provider says; the stock is what came in less what was shipped. Counted in the tables, without asking the code that wrote them.
 */
import { sleep } from '../../kernel/deadline.ts';
import type { Queryable } from '../../postgres/connection.ts';

export interface SagaReport {
  readonly sagas: number;
  readonly completed: number;
  readonly compensated: number;
  /** Not ended, whatever the reason. */
  readonly stuck: number;
  /** Accounts, payments and charges that do not agree, in minor units of money; 0 if all of them do. */
  readonly ledgerImbalance: number;
  /** Pieces that are reserved, or shipped and not ordered, or ordered and not shipped. */
  readonly stockMismatch: number;
  /** Orders whose own state is not the one in which their fulfilment ended. */
  readonly ordersInLimbo: number;
  /** What of the provider's charges does not agree with the ledger, by key; the first few. */
  readonly examples: readonly string[];
}

/** A charge as the provider tells it. */
export interface ProviderCharge {
  readonly key: string;
  readonly status: string;
  readonly amount: string;
}

export function isFulfilled(report: SagaReport): boolean {
  const { stuck, ledgerImbalance, stockMismatch, ordersInLimbo } = report;
  return stuck + ledgerImbalance + stockMismatch + ordersInLimbo === 0;
}

/** Waits until each accepted order has a fulfilment that ended. Returns false when that did not happen in time. */
export async function waitForSagas(
  db: Queryable,
  orders: number,
  { timeoutMs, signal, onProgress }: { timeoutMs: number; signal: AbortSignal; onProgress: (ended: number) => void },
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const ended = await countEnded(db);
    onProgress(ended);
    if (ended >= orders) return true;
    if (performance.now() > deadline || signal.aborted) return false;
    await sleep(250, signal);
  }
}

async function countEnded(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ ended: number }>(
    `select count(*)::int as ended from ferry.saga where name = 'fulfilment' and state in ('completed', 'compensated')`,
  );
  return rows[0]?.ended ?? 0;
}

/** Counts. `charges`: all that the provider has on its books. */
export async function proveSagas(db: Queryable, charges: readonly ProviderCharge[]): Promise<SagaReport> {
  const [states, ledger, stock, limbo] = await Promise.all([
    db.query<{ state: string; count: number }>(
      `select coalesce(saga.state, 'missing') as state, count(*)::int as count
       from commerce.orders left join ferry.saga on saga.name = 'fulfilment' and saga.key = orders.id::text group by 1`,
    ),
    db.query<LedgerRow>(LEDGER),
    db.query<{ mismatch: number }>(STOCK_MISMATCH),
    db.query<{ count: number }>(LIMBO),
  ]);
  const count = (state: string) => states.rows.find((row) => row.state === state)?.count ?? 0;
  const orders = states.rows.reduce((sum, row) => sum + row.count, 0);
  const money = compareMoney(ledger.rows, charges);
  return {
    sagas: orders - count('missing'),
    completed: count('completed'),
    compensated: count('compensated'),
    stuck: orders - count('completed') - count('compensated'),
    ledgerImbalance: money.imbalance,
    stockMismatch: stock.rows[0]?.mismatch ?? 0,
    ordersInLimbo: limbo.rows[0]?.count ?? 0,
    examples: money.examples,
  };
}

interface LedgerRow {
  readonly key: string;
  /** What the payment's rows sum to over all accounts: 0 in double entry. */
  readonly sum: number;
  /** What the provider holds for us by our own books. */
  readonly held: number;
  /** What it should hold: the order's total if the order was completed. */
  readonly owed: number;
}

const LEDGER = `
  select p.idempotency_key as key,
         coalesce((select sum(amount) from payment.ledger l where l.payment_id = p.payment_id), 0)::float8 as sum,
         coalesce((select sum(amount) from payment.ledger l where l.payment_id = p.payment_id and account = 'provider'), 0)::float8 as held,
         case when o.status = 'completed' then o.total else 0 end::float8 as owed
  from payment.payments p join commerce.orders o on o.id = p.payment_id`;

function compareMoney(ledger: readonly LedgerRow[], charges: readonly ProviderCharge[]) {
  const ours = new Map(ledger.map((row) => [row.key, row]));
  const examples: string[] = [];
  let imbalance = 0;
  const note = (off: number, what: string) => {
    if (off === 0) return;
    imbalance += Math.abs(off);
    if (examples.length < 5) examples.push(what);
  };
  for (const { key, sum, held, owed } of ledger) {
    note(sum, `the ledger of ${key} sums to ${sum}`);
    note(held - owed, `${key}: ${held} is held, ${owed} is owed`);
  }
  for (const { key, status, amount } of charges) {
    const taken = status === 'captured' ? Math.round(Number(amount) * 100) : 0;
    note(taken - (ours.get(key)?.held ?? 0), `${key}: the provider has ${taken} (${status})`);
  }
  return { imbalance, examples };
}

/** Per article: shipped is what completed orders had in their lines, and nothing is reserved. */
const STOCK_MISMATCH = `
  select coalesce(sum(abs(s.shipped - coalesce(sold.pieces, 0)) + s.reserved), 0)::int as mismatch
  from inventory.stock s
  left join (select sku, sum(quantity) as pieces from commerce.order_lines l join commerce.orders o on o.id = l.order_id
             where o.status = 'completed' group by sku) sold on sold.sku = s.sku`;

const LIMBO = `
  select count(*)::int as count
  from commerce.orders o left join ferry.saga s on s.name = 'fulfilment' and s.key = o.id::text
  left join shipping.shipments h on h.order_id = o.id
  where o.status is distinct from case s.state when 'completed' then 'completed' when 'compensated' then 'cancelled' end
     or (o.status = 'completed') <> coalesce(h.status = 'handed-over', false)`;
