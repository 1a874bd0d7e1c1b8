/** The statements of the commerce module: one a function. */
import type { Queryable } from '../../postgres/connection.ts';
import type { Customer } from './customer.ts';
import type { Amount, Currency } from './money.ts';
import type { Order, OrderLine, OrderStatus, PostalAddress } from './order.ts';

interface CustomerRow {
  id: string;
  currency: Currency;
  credit_limit: Amount;
  credit_reserved: Amount;
}

function customerOf(row: CustomerRow): Customer {
  return {
    id: row.id,
    currency: row.currency,
    creditLimit: row.credit_limit,
    creditReserved: row.credit_reserved,
  };
}

/** `now` is the database's clock under the lock, RFC 3339 with microseconds: one clock for all instances. */
export interface LockedCustomer {
  readonly customer: Customer;
  readonly now: string;
}

/** Holds the customer until the transaction ends, so that its orders are decided one after another; null if there is none. */
export async function lockCustomer(tx: Queryable, id: string): Promise<LockedCustomer | null> {
  return (await lockCustomers(tx, [id]))[0] ?? null;
}

/** As `lockCustomer`, in the order of their keys. */
export async function lockCustomers(tx: Queryable, ids: readonly string[]): Promise<LockedCustomer[]> {
  const { rows } = await tx.query<CustomerRow & { now: string }>(
    `select id, currency, credit_limit, credit_reserved, clock_timestamp() as now
     from commerce.customers where id = any ($1::text[]) order by id for update`,
    [ids],
  );
  return rows.map((row) => ({ customer: customerOf(row), now: row.now }));
}

export async function findCustomer(db: Queryable, id: string): Promise<Customer | null> {
  const { rows } = await db.query<CustomerRow>(
    'select id, currency, credit_limit, credit_reserved from commerce.customers where id = $1',
    [id],
  );
  return rows[0] === undefined ? null : customerOf(rows[0]);
}

/** Inserts unless the customer is there; returns whether it did. */
export async function insertCustomer(tx: Queryable, customer: Customer): Promise<boolean> {
  const { rowCount } = await tx.query(
    `insert into commerce.customers (id, currency, credit_limit, credit_reserved) values ($1, $2, $3, $4)
     on conflict (id) do nothing`,
    [customer.id, customer.currency, customer.creditLimit, customer.creditReserved],
  );
  return rowCount === 1;
}

export async function updateCustomers(tx: Queryable, customers: readonly Customer[]): Promise<void> {
  await tx.query(
    `update commerce.customers c
     set currency = given.currency, credit_limit = given.credit_limit, credit_reserved = given.credit_reserved
     from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
       as given (id, currency, credit_limit, credit_reserved)
     where c.id = given.id`,
    [
      customers.map(({ id }) => id),
      customers.map(({ currency }) => currency),
      customers.map(({ creditLimit }) => creditLimit),
      customers.map(({ creditReserved }) => creditReserved),
    ],
  );
}

interface OrderRow {
  id: string;
  customer_id: string;
  status: OrderStatus;
  currency: Currency;
  total: Amount;
  version: bigint;
  customer_email: string | null;
  shipping_address: PostalAddress | null;
  placed_at: string;
  changed_at: string;
}

const ORDER_COLUMNS =
  'id, customer_id, status, currency, total, version, customer_email, shipping_address, placed_at, changed_at';

function orderOf(row: OrderRow): Order {
  return {
    id: row.id,
    customerId: row.customer_id,
    status: row.status,
    currency: row.currency,
    total: row.total,
    version: row.version,
    customerEmail: row.customer_email,
    shippingAddress: row.shipping_address,
    placedAt: row.placed_at,
    changedAt: row.changed_at,
  };
}

/** One statement for the order and its lines: each trip to the database counts while the customer is locked. */
export async function insertOrder(tx: Queryable, order: Order, lines: readonly OrderLine[]): Promise<void> {
  await tx.query(
    `with placed as (
       insert into commerce.orders (${ORDER_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id
     )
     insert into commerce.order_lines (order_id, position, sku, quantity, unit_price)
     select placed.id, line.position, line.sku, line.quantity, line.unit_price
     from placed, unnest($11::text[], $12::int[], $13::bigint[]) with ordinality as line (sku, quantity, unit_price, position)`,
    [
      order.id,
      order.customerId,
      order.status,
      order.currency,
      order.total,
      order.version,
      order.customerEmail,
      order.shippingAddress,
      order.placedAt,
      order.changedAt,
      lines.map(({ sku }) => sku),
      lines.map(({ quantity }) => quantity),
      lines.map(({ unitPrice }) => unitPrice),
    ],
  );
}

/** Holds the orders, as far as there are any, until the transaction ends; in the order of their keys. */
export async function lockOrders(tx: Queryable, ids: readonly string[]): Promise<Order[]> {
  const { rows } = await tx.query<OrderRow>(
    `select ${ORDER_COLUMNS} from commerce.orders where id = any ($1::uuid[]) order by id for update`,
    [ids],
  );
  return rows.map(orderOf);
}

export async function findOrder(db: Queryable, id: string): Promise<Order | null> {
  const { rows } = await db.query<OrderRow>(`select ${ORDER_COLUMNS} from commerce.orders where id = $1`, [id]);
  return rows[0] === undefined ? null : orderOf(rows[0]);
}

/** In the order of the request. */
export async function findOrderLines(db: Queryable, orderId: string): Promise<OrderLine[]> {
  const { rows } = await db.query<{ sku: string; quantity: number; unit_price: Amount }>(
    'select sku, quantity, unit_price from commerce.order_lines where order_id = $1 order by position',
    [orderId],
  );
  return rows.map((row) => ({ sku: row.sku, quantity: row.quantity, unitPrice: row.unit_price }));
}

export async function updateOrders(tx: Queryable, orders: readonly Order[]): Promise<void> {
  await tx.query(
    `update commerce.orders o set status = given.status, version = given.version, changed_at = given.changed_at
     from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[]) as given (id, status, version, changed_at)
     where o.id = given.id`,
    [
      orders.map(({ id }) => id),
      orders.map(({ status }) => status),
      orders.map(({ version }) => version),
      orders.map(({ changedAt }) => changedAt),
    ],
  );
}

export interface OrderFilter {
  readonly customerId: string | null;
  readonly status: OrderStatus | null;
  /** Only orders older than this one: the last of the page before. */
  readonly before: string | null;
  readonly limit: number;
}

/**
 * Newest first. A state that hardly any order is in reads them all (500,000: 120 ms). An index of the open ones would end that, and updates in
 * place with it, which six in ten changes of an order are: a third more time and WAL for each order, measured with every change that it goes through.
 */
export async function listOrders(db: Queryable, filter: OrderFilter): Promise<Order[]> {
  const { rows } = await db.query<OrderRow>(
    `select ${ORDER_COLUMNS} from commerce.orders
     where ($1::text is null or customer_id = $1) and ($2::text is null or status = $2) and ($3::uuid is null or id < $3)
     order by id desc limit $4`,
    [filter.customerId, filter.status, filter.before, filter.limit],
  );
  return rows.map(orderOf);
}

/** What a customer ordered and cancelled in one currency. Amounts are decimals with two places. */
export interface OrderTotals {
  readonly currency: Currency;
  readonly placed: bigint;
  readonly placedTotal: string;
  readonly cancelled: bigint;
  readonly cancelledTotal: string;
}

/** From the projection that a consumer keeps: as far as that has come. */
export async function findOrderTotals(db: Queryable, customerId: string): Promise<OrderTotals[]> {
  const { rows } = await db.query<OrderTotals>(
    `select currency, placed, placed_total as "placedTotal", cancelled, cancelled_total as "cancelledTotal"
     from commerce.orders_per_customer where customer_id = $1 order by currency`,
    [customerId],
  );
  return rows;
}
