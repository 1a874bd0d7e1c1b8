/**
 * Generated from schemas/*.avsc by src/registry/generate-types.ts: do not edit. Payloads in plain JSON, as the encoder accepts and
 * the decoder gives them; the forms of decimals, times and bytes are in src/registry/json-codec.ts.
 */

/** Credit that was set aside for an order is free again. */
export interface CreditReleased {
  /** The customer; the aggregate id of this event. */
  readonly customerId: string;
  /** The order that it is for. UUID. */
  readonly orderId: string;
  /** ISO 4217 code of both amounts. */
  readonly currency: string;
  /** What was given back. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
  /** Credit that is free afterwards. Decimal with exactly 2 digits after the point. */
  readonly available: string;
  /** When the credit was given back. ISO 8601, UTC, 6 fraction digits. */
  readonly releasedAt: string;
}

/** Part of a customer's credit was set aside for an order. */
export interface CreditReserved {
  /** The customer; the aggregate id of this event. */
  readonly customerId: string;
  /** The order that it is for. UUID. */
  readonly orderId: string;
  /** ISO 4217 code of both amounts. */
  readonly currency: string;
  /** What was set aside. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
  /** Credit that is free afterwards. Decimal with exactly 2 digits after the point. */
  readonly available: string;
  /** When the credit was set aside. ISO 8601, UTC, 6 fraction digits. */
  readonly reservedAt: string;
}

/** Why an order ends early. OTHER stands for reasons that a reader does not know yet. */
export type CancelReason = 'OTHER' | 'CUSTOMER_REQUEST' | 'OUT_OF_STOCK' | 'CREDIT_REFUSED';

/** An order was cancelled before it was fulfilled; its reserved credit is given back. */
export interface OrderCancelled {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who had ordered. */
  readonly customerId: string;
  /** Why. */
  readonly reason?: CancelReason;
  /** In the customer's words; free text may hold personal data. Personal data. */
  readonly note?: string | null;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What the order had come to, and what is released. Decimal with exactly 2 digits after the point. */
  readonly total: string;
  /** When the cancellation was accepted. ISO 8601, UTC, 6 fraction digits. */
  readonly cancelledAt: string;
}

/** One article of an order. */
export interface OrderLine {
  /** Article number. */
  readonly sku: string;
  /** Pieces, at least 1. */
  readonly quantity: number;
  /** Price of one piece. Decimal with exactly 2 digits after the point. */
  readonly unitPrice: string;
}

/** Where the goods go. */
export interface PostalAddress {
  /** Recipient. Personal data. */
  readonly name: string;
  /** Street and number. Personal data. */
  readonly street: string;
  /** Postal code. Personal data. */
  readonly postalCode: string;
  /** City. Personal data. */
  readonly city: string;
  /** ISO 3166-1 alpha-2 code. */
  readonly country: string;
}

/** A customer placed an order and its total was reserved from the customer's credit. */
export interface OrderPlaced {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** Where the confirmation goes, if the customer gave an address. Personal data. */
  readonly customerEmail?: string | null;
  /** ISO 4217 code of every amount in this event, such as EUR. */
  readonly currency: string;
  /** What was ordered, in the order of the request; never empty. */
  readonly lines: ReadonlyArray<OrderLine>;
  /** Sum of quantity times unit price over all lines, as Ferry recomputed it. Decimal with exactly 2 digits after the point. */
  readonly total: string;
  /** Null when nothing is shipped. Personal data. */
  readonly shippingAddress?: PostalAddress | null;
  /** When the order was accepted. ISO 8601, UTC, 6 fraction digits. */
  readonly placedAt: string;
}

/** Payload of each event type, by its full name. */
export interface EventPayloads {
  'commerce.CreditReleased': CreditReleased;
  'commerce.CreditReserved': CreditReserved;
  'commerce.OrderCancelled': OrderCancelled;
  'commerce.OrderPlaced': OrderPlaced;
}

export type EventType = keyof EventPayloads;
