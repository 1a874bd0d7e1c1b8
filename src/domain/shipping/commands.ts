/** What the shipping module does, each in the caller's one transaction, under the lock of the order's one shipment. */
import type { Queryable } from '../../postgres/connection.ts';
import { insertShipment, lockShipment, updateShipment } from './repository.ts';
import { checkTransition, type Shipment, type ShipmentRefusal } from './shipment.ts';

export interface Outcome<Kind extends string> {
  readonly kind: Kind;
  readonly shipment: Shipment;
  /** The same had been decided before. */
  readonly duplicate: boolean;
}

export interface Refused {
  readonly kind: 'refused';
  readonly reason: ShipmentRefusal | 'CANCELLED' | 'NOT_ARRANGED';
  readonly at: string;
  readonly duplicate: boolean;
}

export interface ArrangeRequest {
  readonly orderId: string;
  readonly customerId: string;
  readonly pieces: number;
  /** Find no carrier. */
  readonly refuse: boolean;
}

/** Arranges the order's shipment, once: what was decided stays decided, and an order that was cancelled gets none. */
export async function arrangeShipment(tx: Queryable, request: ArrangeRequest): Promise<Outcome<'arranged'> | Refused> {
  const { orderId, customerId, pieces, refuse } = request;
  const decided = refuse
    ? ({ status: 'refused', refusal: 'INJECTED' } as const)
    : ({ status: 'arranged', refusal: null } as const);
  const fresh = await insertShipment(tx, { orderId, customerId, pieces, ...decided });
  const shipment = fresh ?? (await holdShipment(tx, orderId));
  const duplicate = fresh === null;
  switch (shipment.status) {
    case 'arranged':
    case 'held':
    case 'handed-over':
      return { kind: 'arranged', shipment, duplicate };
    case 'refused':
      return { kind: 'refused', reason: shipment.refusal ?? 'INJECTED', at: shipment.changedAt, duplicate };
    case 'cancelled':
      return { kind: 'refused', reason: 'CANCELLED', at: shipment.changedAt, duplicate };
  }
}

/** The pivot: hands the parcels over, once. Never after a cancellation, and never after it was refused. */
export async function handOverShipment(
  tx: Queryable,
  orderId: string,
  options: { readonly refuse: boolean },
): Promise<Outcome<'handed-over'> | Refused> {
  const fresh = await insertCancelled(tx, orderId); // an order without a shipment gets none, so that the answer stays true
  if (fresh !== null) return { kind: 'refused', reason: 'NOT_ARRANGED', at: fresh.changedAt, duplicate: false };
  const known = await holdShipment(tx, orderId);
  switch (known.status) {
    case 'arranged': {
      const change = options.refuse
        ? ({ status: 'held', refusal: 'INJECTED' } as const)
        : ({ status: 'handed-over', refusal: null } as const);
      checkTransition(known, change.status);
      const shipment = await updateShipment(tx, orderId, change);
      if (change.status === 'handed-over') return { kind: 'handed-over', shipment, duplicate: false };
      return { kind: 'refused', reason: change.refusal, at: shipment.changedAt, duplicate: false };
    }
    case 'handed-over':
      return { kind: 'handed-over', shipment: known, duplicate: true };
    case 'held':
    case 'refused':
      return { kind: 'refused', reason: known.refusal ?? 'INJECTED', at: known.changedAt, duplicate: true };
    case 'cancelled':
      return { kind: 'refused', reason: 'CANCELLED', at: known.changedAt, duplicate: true };
  }
}

/** No carrier comes, now or later: an order that has no shipment yet is kept as cancelled. Too late once the parcels are handed over. */
export async function cancelShipment(
  tx: Queryable,
  orderId: string,
): Promise<Outcome<'cancelled'> | Outcome<'not-cancellable'>> {
  const fresh = await insertCancelled(tx, orderId);
  if (fresh !== null) return { kind: 'cancelled', shipment: fresh, duplicate: false };
  const known = await holdShipment(tx, orderId);
  if (known.status === 'handed-over') return { kind: 'not-cancellable', shipment: known, duplicate: false };
  if (known.status === 'cancelled') return { kind: 'cancelled', shipment: known, duplicate: true };
  checkTransition(known, 'cancelled');
  const shipment = await updateShipment(tx, orderId, { status: 'cancelled', refusal: known.refusal });
  return { kind: 'cancelled', shipment, duplicate: false };
}

/** Null if the order has a shipment. */
function insertCancelled(tx: Queryable, orderId: string): Promise<Shipment | null> {
  return insertShipment(tx, { orderId, status: 'cancelled', refusal: null, customerId: null, pieces: null });
}

async function holdShipment(tx: Queryable, orderId: string): Promise<Shipment> {
  const shipment = await lockShipment(tx, orderId);
  if (shipment === null) throw new Error(`the shipment of ${orderId} vanished`);
  return shipment;
}
