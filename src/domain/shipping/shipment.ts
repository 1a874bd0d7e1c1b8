/** The rules of a shipment, pure: which state may follow which. Once the carrier has the parcels, nothing brings them back. */

/** Which states may follow a state. */
export const TRANSITIONS = {
  /** A carrier will come. */
  arranged: ['handed-over', 'held', 'cancelled'],
  /** The carrier did not take the parcels, and will not. */
  held: ['cancelled'],
  /** The carrier has them. */
  'handed-over': [],
  /** No carrier comes; also what stands for an order that is cancelled before it was arranged. */
  cancelled: [],
  /** No carrier was to be had. */
  refused: ['cancelled'],
} as const satisfies Record<string, readonly string[]>;

export type ShipmentStatus = keyof typeof TRANSITIONS;

/** Why there is no carrier, or why it took nothing; kept, so that every try gets the same answer. */
export type ShipmentRefusal = 'INJECTED';

export interface Shipment {
  readonly orderId: string;
  /** UUIDv7. */
  readonly id: string;
  readonly status: ShipmentStatus;
  readonly refusal: ShipmentRefusal | null;
  /** RFC 3339 in UTC with microseconds, as all times here. */
  readonly handedOverAt: string | null;
  readonly changedAt: string;
}

/** Throws on a transition that the table does not have: that is a bug, not a condition. */
export function checkTransition({ orderId, status }: Pick<Shipment, 'orderId' | 'status'>, to: ShipmentStatus): void {
  const allowed: readonly string[] = TRANSITIONS[status];
  if (!allowed.includes(to)) throw new Error(`the shipment of ${orderId} is ${status} and cannot become ${to}`);
}
