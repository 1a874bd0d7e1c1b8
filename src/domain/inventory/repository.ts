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
 * Inserts reservations as `released`, in which they hold nothing, for orders that have none. Returns those orders; waits for a transaction
 * that is inserting the same one, until it has ended.
 */
export async function insertReservations(tx: Queryable, orderIds: readonly string[]): Promise<Set<string>> {
  if (orderIds.length === 0) return new Set();
  const { rows } = await tx.query<{ order_id: string }>(
    `insert into inventory.reservations (order_id, status)
     select order_id, 'released' from unnest($1::uuid[]) as given (order_id) order by order_id
     on conflict (order_id) do nothing returning order_id`,
    [orderIds],
  );
  return new Set(rows.map(({ order_id }) => order_id));
}

/** Holds the reservations of these orders, as far as there are any, until the transaction ends. */
export async function lockReservations(tx: Queryable, orderIds: readonly string[]): Promise<Reservation[]> {
  const { rows } = await tx.query<ReservationRow>(
    `select ${COLUMNS} from inventory.reservations r where r.order_id = any ($1::uuid[]) order by r.order_id for update of r`,
    [orderIds],
  );
  return rows.map(reservationOf);
}

/** Writes the states of reservations that are held. */
export async function writeReservations(tx: Queryable, reservations: readonly Reservation[]): Promise<void> {
  await tx.query(
    `update inventory.reservations r
     set status = given.status, refusal = given.refusal, expires_at = given.expires_at, changed_at = given.changed_at
     from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
       as given (order_id, status, refusal, expires_at, changed_at)
     where r.order_id = given.order_id`,
    [
      reservations.map(({ orderId }) => orderId),
      reservations.map(({ status }) => status),
      reservations.map(({ refusal }) => refusal),
      reservations.map(({ expiresAt }) => expiresAt),
      reservations.map(({ changedAt }) => changedAt),
    ],
  );
}

export async function insertLines(
  tx: Queryable,
  lines: ReadonlyArray<StockLine & { readonly orderId: string }>,
): Promise<void> {
  await tx.query(
    `insert into inventory.reservation_lines (order_id, sku, quantity)
     select * from unnest($1::uuid[], $2::text[], $3::int[])`,
    [lines.map(({ orderId }) => orderId), lines.map(({ sku }) => sku), lines.map(({ quantity }) => quantity)],
  );
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

/** Of reservations that are held: what they held is free again, unless somebody else takes it first. */
export async function expireReservations(tx: Queryable, orderIds: readonly string[]): Promise<void> {
  await tx.query(
    `update inventory.reservations set status = 'expired', expires_at = null, changed_at = clock_timestamp()
     where order_id = any ($1::uuid[])`,
    [orderIds],
  );
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

/** Change of each count for each piece. */
export const MOVES: Readonly<Record<StockMove, { readonly reserved: number; readonly shipped: number }>> = {
  reserve: { reserved: 1, shipped: 0 },
  release: { reserved: -1, shipped: 0 },
  issue: { reserved: -1, shipped: 1 },
};

/** Adds to the counts of articles, each of which comes once. The articles must be locked. */
export async function moveStockBy(
  tx: Queryable,
  moves: ReadonlyArray<{ readonly sku: string; readonly reserved: number; readonly shipped: number }>,
): Promise<void> {
  await tx.query(
    `update inventory.stock s set reserved = s.reserved + given.reserved, shipped = s.shipped + given.shipped
     from unnest($1::text[], $2::bigint[], $3::bigint[]) as given (sku, reserved, shipped)
     where s.sku = given.sku`,
    [moves.map(({ sku }) => sku), moves.map(({ reserved }) => reserved), moves.map(({ shipped }) => shipped)],
  );
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
