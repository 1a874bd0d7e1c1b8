/**
 * What the inventory module does, each in the caller's one transaction. The reservation's row is locked before the articles, and the articles
 * in the order of their keys: nobody waits in a circle, and nothing is sold twice.
 */
import type { Pool, Queryable } from '../../postgres/connection.ts';
import { transaction } from '../../postgres/transaction.ts';
import {
  insertLines,
  insertReservation,
  lockExpired,
  lockReservation,
  lockStock,
  moveStock,
  readClock,
  updateReservations,
} from './repository.ts';
import {
  checkTransition,
  piecesOf,
  type Reservation,
  type ReservationRefusal,
  type ReservationStatus,
  type Shortage,
  type StockLine,
  shortageOf,
} from './reservation.ts';

export type StockRefusal = ReservationRefusal | 'CANCELLED' | 'NOT_RESERVED' | 'ALREADY_ISSUED';

interface Refused {
  readonly kind: 'refused';
  readonly reason: StockRefusal;
  readonly sku: string | null;
  readonly at: string;
  readonly duplicate: boolean;
}

interface Done<Kind extends string> {
  readonly kind: Kind;
  readonly reservation: Reservation;
  readonly duplicate: boolean;
}

export interface ReserveRequest {
  readonly orderId: string;
  readonly lines: readonly StockLine[];
  readonly ttlMs: number;
  /** Refuse it without looking at the stock. */
  readonly refuse: boolean;
}

/** Sets aside all lines or nothing, once: what was decided for an order stays decided, and an order that was released gets nothing. */
export async function reserveStock(tx: Queryable, request: ReserveRequest): Promise<Done<'reserved'> | Refused> {
  const { orderId, lines } = request;
  if (await insertReservation(tx, orderId)) {
    await insertLines(tx, orderId, lines);
    return decide(tx, request, null);
  }
  const known = await holdReservation(tx, orderId);
  switch (known.status) {
    case 'reserved':
    case 'issued':
      return { kind: 'reserved', reservation: known, duplicate: true };
    case 'expired':
      return decide(tx, { ...request, lines: known.lines }, known);
    case 'refused':
      return refused(known, known.refusal ?? 'OUT_OF_STOCK', { duplicate: true });
    case 'released':
      return refused(known, 'CANCELLED', { duplicate: true });
  }
}

/** `known` is the reservation that there was; null for a new one. */
async function decide(
  tx: Queryable,
  request: ReserveRequest,
  known: Reservation | null,
): Promise<Done<'reserved'> | Refused> {
  const { orderId, lines, ttlMs, refuse } = request;
  const shortage = refuse ? null : await setAside(tx, lines);
  const refusal = refuse ? 'INJECTED' : (shortage?.reason ?? null);
  if (known !== null) checkTransition(known, refusal === null ? 'reserved' : 'refused');
  if (refusal === null) {
    const reservation = await updateOne(tx, orderId, { status: 'reserved', ttlMs });
    return { kind: 'reserved', reservation, duplicate: false };
  }
  const reservation = await updateOne(tx, orderId, { status: 'refused', refusal });
  return refused(reservation, refusal, { sku: shortage?.sku ?? null });
}

/** Null if all of it is set aside now. */
async function setAside(tx: Queryable, lines: readonly StockLine[]): Promise<Shortage | null> {
  const stock = await lockStock(tx, skusOf(lines));
  const shortage = shortageOf(lines, stock);
  if (shortage === null) await moveStock(tx, lines, 'reserve');
  return shortage;
}

/**
 * Gives free what is set aside, and sees to it that nothing is set aside later: an order that has not reserved yet is kept as released.
 * Refused only if the goods have left.
 */
export async function releaseStock(
  tx: Queryable,
  orderId: string,
): Promise<(Done<'released'> & { readonly pieces: number }) | Refused> {
  const isNew = await insertReservation(tx, orderId);
  const known = await holdReservation(tx, orderId);
  if (known.status === 'issued') return refused(known, 'ALREADY_ISSUED');
  if (known.status === 'released') return { kind: 'released', reservation: known, pieces: 0, duplicate: !isNew };
  const held = known.status === 'reserved' ? known.lines : [];
  if (held.length > 0) await moveLocked(tx, held, 'release');
  checkTransition(known, 'released');
  const reservation = await updateOne(tx, orderId, { status: 'released' });
  return { kind: 'released', reservation, pieces: piecesOf(held), duplicate: false };
}

/** The goods leave. A reservation that expired is taken up again if there is still enough; a refusal is not kept: later there may be. */
export async function issueStock(tx: Queryable, orderId: string): Promise<Done<'issued'> | Refused> {
  const known = await lockReservation(tx, orderId);
  if (known?.status === 'issued') return { kind: 'issued', reservation: known, duplicate: true };
  if (known === null || known.status === 'released' || known.status === 'refused') {
    const at = known?.changedAt ?? (await readClock(tx));
    return { kind: 'refused', reason: 'NOT_RESERVED', sku: null, at, duplicate: false };
  }
  if (known.status === 'expired') {
    const shortage = await setAside(tx, known.lines);
    if (shortage !== null) return refused(known, shortage.reason, { sku: shortage.sku });
    checkTransition(known, 'reserved');
  }
  await moveLocked(tx, known.lines, 'issue');
  checkTransition({ orderId, status: 'reserved' }, 'issued');
  return { kind: 'issued', reservation: await updateOne(tx, orderId, { status: 'issued' }), duplicate: false };
}

/** Gives free at most `limit` reservations whose time is over, in one transaction; resolves with how many. */
export function releaseExpired(pool: Pool, limit: number): Promise<number> {
  return transaction(pool, async (tx) => {
    const expired = await lockExpired(tx, limit);
    if (expired.length === 0) return 0;
    await moveLocked(
      tx,
      expired.flatMap(({ lines }) => lines),
      'release',
    );
    for (const reservation of expired) checkTransition(reservation, 'expired');
    await updateReservations(
      tx,
      expired.map(({ orderId }) => orderId),
      { status: 'expired' },
    );
    return expired.length;
  });
}

async function moveLocked(tx: Queryable, lines: readonly StockLine[], move: 'release' | 'issue'): Promise<void> {
  await lockStock(tx, skusOf(lines));
  await moveStock(tx, lines, move);
}

async function holdReservation(tx: Queryable, orderId: string): Promise<Reservation> {
  const reservation = await lockReservation(tx, orderId);
  if (reservation === null) throw new Error(`the reservation of ${orderId} vanished`);
  return reservation;
}

async function updateOne(
  tx: Queryable,
  orderId: string,
  change: { readonly status: ReservationStatus; readonly refusal?: ReservationRefusal; readonly ttlMs?: number },
): Promise<Reservation> {
  const [reservation] = await updateReservations(tx, [orderId], change);
  if (reservation === undefined) throw new Error(`the reservation of ${orderId} vanished`);
  return reservation;
}

function refused(
  reservation: Reservation,
  reason: StockRefusal,
  { sku = null, duplicate = false }: { readonly sku?: string | null; readonly duplicate?: boolean } = {},
): Refused {
  return { kind: 'refused', reason, sku, at: reservation.changedAt, duplicate };
}

const skusOf = (lines: readonly StockLine[]) => [...new Set(lines.map(({ sku }) => sku))];
