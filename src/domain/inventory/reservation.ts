/** The rules of a reservation, pure: which state may follow which, and whether the stock suffices. */

/** Which states may follow a state. */
export const TRANSITIONS = {
  /** Set aside, until it expires. */
  reserved: ['issued', 'released', 'expired'],
  /** Free again because its time was over; the order may still come for it, and is never refused what it was promised. */
  expired: ['reserved', 'released'],
  /** It has left the warehouse. */
  issued: [],
  /** Nothing is set aside, and nothing will be; also what stands for an order that is released before it reserved. */
  released: [],
  /** Nothing was set aside, and nothing will be. */
  refused: ['released'],
} as const satisfies Record<string, readonly string[]>;

export type ReservationStatus = keyof typeof TRANSITIONS;

/** Why an order gets nothing; kept, so that every try gets the same answer. */
export type ReservationRefusal = 'OUT_OF_STOCK' | 'UNKNOWN_ARTICLE' | 'INJECTED';

export interface StockLine {
  readonly sku: string;
  readonly quantity: number;
}

export interface Reservation {
  readonly orderId: string;
  readonly status: ReservationStatus;
  /** Set if and only if it is `refused`. */
  readonly refusal: ReservationRefusal | null;
  /** RFC 3339 in UTC with microseconds, as all times here. */
  readonly expiresAt: string | null;
  readonly changedAt: string;
  readonly lines: readonly StockLine[];
}

/** What there is of an article, in pieces. */
export interface Stock {
  readonly sku: string;
  readonly available: bigint;
}

/** Throws on a transition that the table does not have: that is a bug, not a condition. */
export function checkTransition(from: Pick<Reservation, 'orderId' | 'status'>, to: ReservationStatus): void {
  const allowed: readonly string[] = TRANSITIONS[from.status];
  if (!allowed.includes(to)) throw new Error(`the reservation of ${from.orderId} is ${from.status}, not to be ${to}`);
}

export interface Shortage {
  readonly reason: 'OUT_OF_STOCK' | 'UNKNOWN_ARTICLE';
  readonly sku: string;
}

/** The first article of which there is not enough; null if all of it can be set aside. */
export function shortageOf(lines: readonly StockLine[], stock: readonly Stock[]): Shortage | null {
  const available = new Map(stock.map((article) => [article.sku, article.available]));
  for (const { sku, quantity } of lines) {
    const pieces = available.get(sku);
    if (pieces === undefined) return { reason: 'UNKNOWN_ARTICLE', sku };
    if (pieces < BigInt(quantity)) return { reason: 'OUT_OF_STOCK', sku };
  }
  return null;
}

export function piecesOf(lines: readonly StockLine[]): number {
  return lines.reduce((sum, { quantity }) => sum + quantity, 0);
}
