/**
 * What the inventory module does. Commands change a warehouse, which is read and written by the batch; the sweep of what has expired is a
 * transaction of its own.
 */
import type { Pool } from '../../postgres/connection.ts';
import { transaction } from '../../postgres/transaction.ts';
import { expireReservations, lockExpired, lockStock, MOVES, moveStockBy } from './repository.ts';
import {
  checkTransition,
  piecesOf,
  type Reservation,
  type ReservationRefusal,
  type Shortage,
  type StockLine,
  shortageOf,
} from './reservation.ts';
import type { Warehouse } from './warehouse.ts';

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
  /** Refuse it without looking at the stock. */
  readonly refuse: boolean;
}

/** Sets aside all lines or nothing, once: what was decided for an order stays decided, and an order that was released gets nothing. */
export function reserveStock(warehouse: Warehouse, request: ReserveRequest): Done<'reserved'> | Refused {
  const { orderId, lines } = request;
  const isNew = warehouse.begin(orderId);
  const known = reservationOf(warehouse, orderId);
  if (isNew) {
    warehouse.addLines(orderId, lines);
    return decide(warehouse, { ...known, lines }, request.refuse);
  }
  switch (known.status) {
    case 'reserved':
    case 'issued':
      return { kind: 'reserved', reservation: known, duplicate: true };
    case 'expired': {
      // Promised, perhaps to a saga that is past its pivot on the strength of it: a shortage is told when the goods should leave, where stock
      // that comes in later still helps.
      if (setAside(warehouse, known.lines) !== null) return { kind: 'reserved', reservation: known, duplicate: true };
      checkTransition(known, 'reserved');
      return keepReserved(warehouse, known);
    }
    case 'refused':
      return refused(known, known.refusal ?? 'OUT_OF_STOCK', { duplicate: true });
    case 'released':
      return refused(known, 'CANCELLED', { duplicate: true });
  }
}

function decide(warehouse: Warehouse, wanted: Reservation, refuse: boolean): Done<'reserved'> | Refused {
  const shortage = refuse ? null : setAside(warehouse, wanted.lines);
  const refusal = refuse ? 'INJECTED' : (shortage?.reason ?? null);
  if (refusal === null) return keepReserved(warehouse, wanted);
  const reservation = warehouse.keep({ ...wanted, status: 'refused', refusal, expiresAt: null });
  return refused(reservation, refusal, { sku: shortage?.sku ?? null });
}

function keepReserved(warehouse: Warehouse, wanted: Reservation): Done<'reserved'> {
  const { expiresAt } = warehouse;
  const reservation = warehouse.keep({ ...wanted, status: 'reserved', refusal: null, expiresAt });
  return { kind: 'reserved', reservation, duplicate: false };
}

/** Null if all of it is set aside now. */
function setAside(warehouse: Warehouse, lines: readonly StockLine[]): Shortage | null {
  const shortage = shortageOf(lines, warehouse.stockOf(lines));
  if (shortage === null) warehouse.move(lines, 'reserve');
  return shortage;
}

/**
 * Gives free what is set aside, and sees to it that nothing is set aside later: an order that has not reserved yet is kept as released.
 * Refused only if the goods have left.
 */
export function releaseStock(
  warehouse: Warehouse,
  orderId: string,
): (Done<'released'> & { readonly pieces: number }) | Refused {
  const isNew = warehouse.begin(orderId);
  const known = reservationOf(warehouse, orderId);
  if (known.status === 'issued') return refused(known, 'ALREADY_ISSUED');
  if (known.status === 'released') return { kind: 'released', reservation: known, pieces: 0, duplicate: !isNew };
  const held = known.status === 'reserved' ? known.lines : [];
  warehouse.move(held, 'release');
  checkTransition(known, 'released');
  const reservation = warehouse.keep({ ...known, status: 'released', refusal: null, expiresAt: null });
  return { kind: 'released', reservation, pieces: piecesOf(held), duplicate: false };
}

/** The goods leave. A reservation that expired is taken up again if there is still enough; a refusal is not kept: later there may be. */
export function issueStock(warehouse: Warehouse, orderId: string): Done<'issued'> | Refused {
  const known = warehouse.find(orderId);
  if (known?.status === 'issued') return { kind: 'issued', reservation: known, duplicate: true };
  if (known === null || known.status === 'released' || known.status === 'refused') {
    const at = known?.changedAt ?? warehouse.now;
    return { kind: 'refused', reason: 'NOT_RESERVED', sku: null, at, duplicate: false };
  }
  if (known.status === 'expired') {
    const shortage = setAside(warehouse, known.lines);
    if (shortage !== null) return refused(known, shortage.reason, { sku: shortage.sku });
    checkTransition(known, 'reserved');
  }
  warehouse.move(known.lines, 'issue');
  checkTransition({ orderId, status: 'reserved' }, 'issued');
  const reservation = warehouse.keep({ ...known, status: 'issued', refusal: null, expiresAt: null });
  return { kind: 'issued', reservation, duplicate: false };
}

/** Gives free at most `limit` reservations whose time is over, in one transaction; resolves with how many. */
export function releaseExpired(pool: Pool, limit: number): Promise<number> {
  return transaction(pool, async (tx) => {
    const expired = await lockExpired(tx, limit);
    if (expired.length === 0) return 0;
    const pieces = new Map<string, number>();
    for (const { sku, quantity } of expired.flatMap(({ lines }) => lines)) {
      pieces.set(sku, (pieces.get(sku) ?? 0) + quantity);
    }
    const { reserved, shipped } = MOVES.release;
    await lockStock(tx, [...pieces.keys()]);
    await moveStockBy(
      tx,
      [...pieces].map(([sku, sum]) => ({ sku, reserved: reserved * sum, shipped: shipped * sum })),
    );
    for (const reservation of expired) checkTransition(reservation, 'expired');
    await expireReservations(
      tx,
      expired.map(({ orderId }) => orderId),
    );
    return expired.length;
  });
}

function reservationOf(warehouse: Warehouse, orderId: string): Reservation {
  const reservation = warehouse.find(orderId);
  if (reservation === null) throw new Error(`the reservation of ${orderId} vanished`);
  return reservation;
}

function refused(
  reservation: Reservation,
  reason: StockRefusal,
  { sku = null, duplicate = false }: { readonly sku?: string | null; readonly duplicate?: boolean } = {},
): Refused {
  return { kind: 'refused', reason, sku, at: reservation.changedAt, duplicate };
}
