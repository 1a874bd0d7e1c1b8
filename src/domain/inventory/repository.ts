/** The statements of the inventory module: one a function. */
import type { Queryable } from '../../postgres/connection.ts';
import type { Reservation, ReservationRefusal, ReservationStatus, Stock, StockLine } from './reservation.ts';

interface ReservationRow {
  order_id: string;
  status: ReservationStatus;
  refusal: ReservationRefusal | null;
  expires_at: string | null;
  changed_at: string;
  lines: StockLine[] | null;
}

const COLUMNS = `r.order_id, r.status, r.refusal, r.expires_at, r.changed_at,
  (select jsonb_agg(jsonb_build_object('sku', l.sku, 'quantity', l.quantity) order by l.sku)
     from inventory.reservation_lines l where l.order_id = r.order_id) as lines`;

function reservationOf(row: ReservationRow): Reservation {
  return {
    orderId: row.order_id,
    status: row.status,
    refusal: row.refusal,
    expiresAt: row.expires_at,
    changedAt: row.changed_at,
    lines: row.lines ?? [],
  };
}

/**
 * Inserts an order's reservation as `released`, in which it holds nothing, unless there is one. Returns whether it did; waits for a
 * transaction that is inserting the same one, until it has ended.
 */
export async function insertReservation(tx: Queryable, orderId: string): Promise<boolean> {
  const { rowCount } = await tx.query(
    `insert into inventory.reservations (order_id, status) values ($1, 'released') on conflict (order_id) do nothing`,
    [orderId],
  );
  return rowCount === 1;
}

export async function insertLines(tx: Queryable, orderId: string, lines: readonly StockLine[]): Promise<void> {
  await tx.query(
    `insert into inventory.reservation_lines (order_id, sku, quantity)
     select $1, sku, quantity from unnest($2::text[], $3::int[]) as line(sku, quantity)`,
    [orderId, lines.map(({ sku }) => sku), lines.map(({ quantity }) => quantity)],
  );
}

/** Holds the reservation until the transaction ends; null if there is none. */
export async function lockReservation(tx: Queryable, orderId: string): Promise<Reservation | null> {
  const { rows } = await tx.query<ReservationRow>(
    `select ${COLUMNS} from inventory.reservations r where r.order_id = $1 for update of r`,
    [orderId],
  );
  return rows[0] === undefined ? null : reservationOf(rows[0]);
}

/** Holds the reservations of these orders, as far as there are any, until the transaction ends. */
export async function holdReservations(tx: Queryable, orderIds: readonly string[]): Promise<void> {
  await tx.query(
    'select 1 from inventory.reservations where order_id = any ($1::uuid[]) order by order_id for update',
    [orderIds],
  );
}

/** The articles of these orders. */
export async function readReservedSkus(db: Queryable, orderIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ sku: string }>(
    'select distinct sku from inventory.reservation_lines where order_id = any ($1::uuid[])',
    [orderIds],
  );
  return rows.map(({ sku }) => sku);
}

/** Holds at most `limit` reservations whose time is over; those that somebody else holds are passed over. */
export async function lockExpired(tx: Queryable, limit: number): Promise<Reservation[]> {
  const { rows } = await tx.query<ReservationRow>(
    `select ${COLUMNS} from inventory.reservations r
     where r.status = 'reserved' and r.expires_at <= clock_timestamp()
     order by r.expires_at limit $1 for update of r skip locked`,
    [limit],
  );
  return rows.map(reservationOf);
}

export interface StatusChange {
  readonly status: ReservationStatus;
  readonly refusal?: ReservationRefusal;
  /** From now on; only for `reserved`. */
  readonly ttlMs?: number;
}

/** Resolves with the reservations as they are kept. */
export async function updateReservations(
  tx: Queryable,
  orderIds: readonly string[],
  { status, refusal, ttlMs }: StatusChange,
): Promise<Reservation[]> {
  const { rows } = await tx.query<ReservationRow>(
    `update inventory.reservations r
     set status = $2, refusal = $3, changed_at = clock_timestamp(),
         expires_at = clock_timestamp() + $4::double precision * interval '1 millisecond'
     where r.order_id = any ($1::uuid[]) returning ${COLUMNS}`,
    [orderIds, status, refusal ?? null, ttlMs ?? null],
  );
  return rows.map(reservationOf);
}

/**
 * Holds the articles until the transaction ends; those that are not there are left out. Rows are locked in the order of their keys, the same
 * for everybody: none waits for another in a circle.
 */
export async function lockStock(tx: Queryable, skus: readonly string[]): Promise<Stock[]> {
  const { rows } = await tx.query<{ sku: string; available: bigint }>(
    `select sku, received - shipped - reserved as available from inventory.stock
     where sku = any ($1::text[]) order by sku for update`,
    [skus],
  );
  return rows;
}

/** How the pieces of each line count afterwards. */
export type StockMove = 'reserve' | 'release' | 'issue';

const MOVES: Readonly<Record<StockMove, { readonly reserved: number; readonly shipped: number }>> = {
  reserve: { reserved: 1, shipped: 0 },
  release: { reserved: -1, shipped: 0 },
  issue: { reserved: -1, shipped: 1 },
};

/** Moves the pieces of the lines, an article of several lines once. The articles must be locked. */
export async function moveStock(tx: Queryable, lines: readonly StockLine[], move: StockMove): Promise<void> {
  const { reserved, shipped } = MOVES[move];
  await tx.query(
    `update inventory.stock s set reserved = s.reserved + $3 * l.quantity, shipped = s.shipped + $4 * l.quantity
     from (select sku, sum(quantity)::bigint as quantity from unnest($1::text[], $2::bigint[]) as line(sku, quantity)
           group by sku) l
     where s.sku = l.sku`,
    [lines.map(({ sku }) => sku), lines.map(({ quantity }) => quantity), reserved, shipped],
  );
}

/** The database's clock: RFC 3339 in UTC with microseconds. */
export async function readClock(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ now: string }>('select clock_timestamp() as now');
  if (rows[0] === undefined) throw new Error('the database has no clock');
  return rows[0].now;
}

/** Goods that come in; a new article is made. */
export async function receiveStock(tx: Queryable, lines: readonly StockLine[]): Promise<void> {
  await tx.query(
    `insert into inventory.stock as s (sku, received)
     select sku, sum(quantity) from unnest($1::text[], $2::bigint[]) as line(sku, quantity) group by sku order by sku
     on conflict (sku) do update set received = s.received + excluded.received`,
    [lines.map(({ sku }) => sku), lines.map(({ quantity }) => quantity)],
  );
}

/** What came in of an article, what left, what is set aside: in pieces. */
export interface StockLevel extends Stock {
  readonly received: bigint;
  readonly shipped: bigint;
  readonly reserved: bigint;
}

export async function findStock(db: Queryable, sku: string): Promise<StockLevel | null> {
  const { rows } = await db.query<StockLevel>(
    `select sku, received, shipped, reserved, received - shipped - reserved as available from inventory.stock
     where sku = $1`,
    [sku],
  );
  return rows[0] ?? null;
}
