/**
 * What the demo proves of the fulfilments: every one has ended, done or undone; the money in the ledger sums to zero and agrees with what the
 * provider says; the stock is what came in less what was shipped. Counted in the tables, without asking the code that wrote them; what belongs
 * together is put together here, because the tables may be in several databases.
 */
import { type Databases, databaseOf, type OwnDatabaseName } from '../../config/databases.ts';
import { sleep } from '../../kernel/deadline.ts';
import type { Queryable } from '../../postgres/connection.ts';
import type { Pools } from '../../postgres/pools.ts';

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

/** Waits until each accepted order has a fulfilment that ended. False when that did not happen in time; rejects with the signal's reason. */
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
    if (performance.now() > deadline) return false;
    await sleep(250, signal);
    signal.throwIfAborted();
  }
}

async function countEnded(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ ended: number }>(
    `select count(*)::int as ended from ferry.saga where name = 'fulfilment' and state in ('completed', 'compensated')`,
  );
  return rows[0]?.ended ?? 0;
}

/** Where the tables are; the same one for all, where all is in one. */
export interface ModuleDatabases {
  readonly main: Queryable;
  readonly payment: Queryable;
  readonly inventory: Queryable;
  readonly shipping: Queryable;
}

export function moduleDatabases(databases: Databases, pools: Pools): ModuleDatabases {
  const of = (module: OwnDatabaseName) => pools.of(databaseOf(databases, module));
  return { main: pools.of('main'), payment: of('payment'), inventory: of('inventory'), shipping: of('shipping') };
}

/** Counts, when nothing is under way. `charges`: all that the provider has on its books. */
export async function proveSagas(databases: ModuleDatabases, charges: readonly ProviderCharge[]): Promise<SagaReport> {
  const { main, payment, inventory, shipping } = databases;
  const [orders, sold, payments, stock, shipped] = await Promise.all([
    main.query<OrderRow>(ORDERS),
    main.query<{ sku: string; pieces: number }>(SOLD),
    payment.query<PaymentRow>(PAYMENTS),
    inventory.query<StockRow>('select sku, shipped::float8, reserved::float8 from inventory.stock'),
    shipping.query<{ order: string }>(`select order_id as order from shipping.shipments where status = 'handed-over'`),
  ]);
  const count = (state: string | null) => orders.rows.filter((row) => row.saga === state).length;
  const money = compareMoney(orders.rows, payments.rows, charges);
  return {
    sagas: orders.rows.length - count(null),
    completed: count('completed'),
    compensated: count('compensated'),
    stuck: orders.rows.length - count('completed') - count('compensated'),
    ledgerImbalance: money.imbalance,
    stockMismatch: compareStock(stock.rows, new Map(sold.rows.map(({ sku, pieces }) => [sku, pieces]))),
    ordersInLimbo: countLimbo(orders.rows, new Set(shipped.rows.map(({ order }) => order))),
    examples: money.examples,
  };
}

interface OrderRow {
  readonly id: string;
  readonly status: string;
  /** In minor units. */
  readonly total: number;
  /** State of its fulfilment; null if it has none. */
  readonly saga: string | null;
}

const ORDERS = `
  select o.id, o.status, o.total::float8 as total, s.state as saga
  from commerce.orders o left join ferry.saga s on s.name = 'fulfilment' and s.key = o.id::text`;

/** Pieces that completed orders had in their lines, per article. */
const SOLD = `
  select sku, sum(quantity)::float8 as pieces from commerce.order_lines l join commerce.orders o on o.id = l.order_id
  where o.status = 'completed' group by sku`;

interface PaymentRow {
  readonly order: string;
  readonly key: string;
  /** What the payment's rows sum to over all accounts: 0 in double entry. */
  readonly sum: number;
  /** What the provider holds for us by our own books. */
  readonly held: number;
}

const PAYMENTS = `
  select p.payment_id as order, p.idempotency_key as key, coalesce(sum(l.amount), 0)::float8 as sum,
         coalesce(sum(l.amount) filter (where l.account = 'provider'), 0)::float8 as held
  from payment.payments p left join payment.ledger l using (payment_id) group by p.payment_id`;

/** The provider should hold an order's total if the order was completed, and nothing else. */
function compareMoney(
  orders: readonly OrderRow[],
  payments: readonly PaymentRow[],
  charges: readonly ProviderCharge[],
): { imbalance: number; examples: string[] } {
  const owed = new Map(orders.filter(isCompleted).map(({ id, total }) => [id, total]));
  const ours = new Map(payments.map(({ key, held }) => [key, held]));
  const examples: string[] = [];
  let imbalance = 0;
  const note = (off: number, what: string) => {
    if (off === 0) return;
    imbalance += Math.abs(off);
    if (examples.length < 5) examples.push(what);
  };
  for (const { order, key, sum, held } of payments) {
    const due = owed.get(order) ?? 0;
    owed.delete(order);
    note(sum, `the ledger of ${key} sums to ${sum}`);
    note(held - due, `${key}: ${held} is held, ${due} is owed`);
  }
  for (const [order, due] of owed) note(due, `order ${order} is completed, and nobody paid ${due}`);
  for (const { key, status, amount } of charges) {
    const taken = status === 'captured' ? Math.round(Number(amount) * 100) : 0;
    note(taken - (ours.get(key) ?? 0), `${key}: the provider has ${taken} (${status})`);
  }
  return { imbalance, examples };
}

interface StockRow {
  readonly sku: string;
  readonly shipped: number;
  readonly reserved: number;
}

/** Per article: shipped is what completed orders had in their lines, and nothing is reserved. */
function compareStock(stock: readonly StockRow[], sold: ReadonlyMap<string, number>): number {
  const unsold = new Map(sold);
  let mismatch = 0;
  for (const { sku, shipped, reserved } of stock) {
    mismatch += Math.abs(shipped - (sold.get(sku) ?? 0)) + reserved;
    unsold.delete(sku);
  }
  for (const pieces of unsold.values()) mismatch += pieces; // of articles that inventory does not know
  return mismatch;
}

/** What an order is once its fulfilment has ended. */
const ENDS = new Map([
  ['completed', 'completed'],
  ['compensated', 'cancelled'],
]);

/** Orders that are not what their fulfilment came to, or of which the parcels say otherwise. */
function countLimbo(orders: readonly OrderRow[], handedOver: ReadonlySet<string>): number {
  const inLimbo = orders.filter(
    (order) => ENDS.get(order.saga ?? '') !== order.status || isCompleted(order) !== handedOver.has(order.id),
  );
  const known = new Set(orders.map(({ id }) => id));
  return inLimbo.length + [...handedOver].filter((order) => !known.has(order)).length;
}

function isCompleted({ status }: Pick<OrderRow, 'status'>): boolean {
  return status === 'completed';
}
