/** What the shipping module does, on a book that holds the order's one shipment. */
import { checkTransition, type Shipment, type ShipmentRefusal } from './shipment.ts';
import type { Parcels, ShipmentBook } from './shipment-book.ts';

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

export interface ArrangeRequest extends Parcels {
  readonly orderId: string;
  /** Find no carrier. */
  readonly refuse: boolean;
}

/** Arranges the order's shipment, once: what was decided stays decided, and an order that was cancelled gets none. */
export function arrangeShipment(book: ShipmentBook, request: ArrangeRequest): Outcome<'arranged'> | Refused {
  const { orderId, refuse, ...parcels } = request;
  const isNew = book.begin(orderId);
  const decided = refuse
    ? ({ status: 'refused', refusal: 'INJECTED' } as const)
    : ({ status: 'arranged', refusal: null } as const);
  const known = book.find(orderId);
  const shipment = isNew ? book.keep({ ...known, ...decided }, parcels) : known;
  const duplicate = !isNew;
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
export function handOverShipment(
  book: ShipmentBook,
  orderId: string,
  options: { readonly refuse: boolean },
): Outcome<'handed-over'> | Refused {
  const isNew = book.begin(orderId); // an order without a shipment gets none, so that the answer stays true
  const known = book.find(orderId);
  if (isNew) return { kind: 'refused', reason: 'NOT_ARRANGED', at: known.changedAt, duplicate: false };
  switch (known.status) {
    case 'arranged': {
      const change = options.refuse
        ? ({ status: 'held', refusal: 'INJECTED' } as const)
        : ({ status: 'handed-over', refusal: null } as const);
      checkTransition(known, change.status);
      const shipment = book.keep({ ...known, ...change });
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
export function cancelShipment(book: ShipmentBook, orderId: string): Outcome<'cancelled'> | Outcome<'not-cancellable'> {
  const isNew = book.begin(orderId);
  const known = book.find(orderId);
  if (isNew) return { kind: 'cancelled', shipment: known, duplicate: false };
  if (known.status === 'handed-over') return { kind: 'not-cancellable', shipment: known, duplicate: false };
  if (known.status === 'cancelled') return { kind: 'cancelled', shipment: known, duplicate: true };
  checkTransition(known, 'cancelled');
  const shipment = book.keep({ ...known, status: 'cancelled' });
  return { kind: 'cancelled', shipment, duplicate: false };
}
