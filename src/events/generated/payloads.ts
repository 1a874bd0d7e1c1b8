/**
 * Generated from schemas/*.avsc by src/registry/generate-types.ts: do not edit. Payloads in plain JSON, as the encoder accepts and
 * the decoder gives them; the forms of decimals, times and bytes are in src/registry/json-codec.ts.
 */

/** Command: arrange that a carrier comes for the parcels of an order. */
export interface ArrangeShipment {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** How many pieces, at least 1. */
  readonly pieces: number;
}

/** Command: end an order that cannot be fulfilled, and give its credit free. */
export interface CancelOrder {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** Command: the carrier need not come. Right also if none was asked to, and then none will be. */
export interface CancelShipment {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** Command: take the money for an order. At most once, however often it is sent. */
export interface CapturePayment {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What to take. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
}

/** Command: an order is fulfilled. */
export interface CompleteOrder {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** Command: everything is ready to be handed over; from now on the customer cannot cancel. */
export interface ConfirmOrder {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

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

/** The carrier did not take the parcels of an order, and will not. */
export interface HandOverFailed {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Why, for programs: NOT_ARRANGED, CANCELLED, INJECTED. */
  readonly reason: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly failedAt: string;
}

/** Command: hand the parcels of an order to the carrier. They cannot be called back afterwards. */
export interface HandOverShipment {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** Command: what was set aside for an order has left the warehouse. */
export interface IssueStock {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** Answer to a command: the order had been cancelled before, and nothing happened now. */
export interface OrderAlreadyCancelled {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Since when. ISO 8601, UTC, 6 fraction digits. */
  readonly cancelledAt: string;
}

/** Answer to a command: the order had been completed before, and nothing happened now. */
export interface OrderAlreadyCompleted {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Since when. ISO 8601, UTC, 6 fraction digits. */
  readonly completedAt: string;
}

/** Answer to a command: the order had been confirmed before, and nothing happened now. */
export interface OrderAlreadyConfirmed {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Since when. ISO 8601, UTC, 6 fraction digits. */
  readonly confirmedAt: string;
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

/** An order was fulfilled and paid; its reserved credit is given back. */
export interface OrderCompleted {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What the order came to. Decimal with exactly 2 digits after the point. */
  readonly total: string;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly completedAt: string;
}

/** An order is about to be handed over: its customer cannot cancel it any more. */
export interface OrderConfirmed {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly confirmedAt: string;
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

/** The money for an order was taken. */
export interface PaymentCaptured {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** The payment. UUID. */
  readonly paymentId: string;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What was taken. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When it was taken. ISO 8601, UTC, 6 fraction digits. */
  readonly capturedAt: string;
}

/** The money for an order was not taken, and will not be. */
export interface PaymentFailed {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Why, for programs: DECLINED, PROVIDER_UNREACHABLE, CANCELLED, OTHER_KEY, INJECTED. */
  readonly reason: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When that was certain. ISO 8601, UTC, 6 fraction digits. */
  readonly failedAt: string;
}

/** An order costs its customer nothing any more: what was taken has been given back. */
export interface PaymentRefunded {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What was given back; 0.00 if nothing had been taken. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly refundedAt: string;
}

/** Command: give back what was taken for an order. Right also if nothing was taken, and then nothing will be. */
export interface RefundPayment {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Who ordered. */
  readonly customerId: string;
  /** ISO 4217 code of the amount. */
  readonly currency: string;
  /** What was to be taken. Decimal with exactly 2 digits after the point. */
  readonly amount: string;
}

/** Command: give free what was set aside for an order. Right also if nothing was, and then nothing will be. */
export interface ReleaseStock {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
}

/** One article that an order needs. */
export interface StockLine {
  /** Article number. */
  readonly sku: string;
  /** Pieces, at least 1. */
  readonly quantity: number;
}

/** Command: set aside what an order needs, all of it or nothing. */
export interface ReserveStock {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** What is needed; never empty, each article once. */
  readonly lines: ReadonlyArray<StockLine>;
}

/** A carrier will come for the parcels of an order. */
export interface ShipmentArranged {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** The shipment. UUID. */
  readonly shipmentId: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When it was arranged. ISO 8601, UTC, 6 fraction digits. */
  readonly arrangedAt: string;
}

/** The parcels of an order stay here. */
export interface ShipmentCancelled {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When that was certain. ISO 8601, UTC, 6 fraction digits. */
  readonly cancelledAt: string;
}

/** The carrier has the parcels of an order: from here on there is only forward. */
export interface ShipmentHandedOver {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** The shipment. UUID. */
  readonly shipmentId: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly handedOverAt: string;
}

/** The parcels of an order are with the carrier already. */
export interface ShipmentNotCancellable {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Since when. ISO 8601, UTC, 6 fraction digits. */
  readonly handedOverAt: string;
}

/** No carrier comes for the parcels of an order. */
export interface ShipmentRefused {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Why, for programs: CANCELLED, INJECTED. */
  readonly reason: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly refusedAt: string;
}

/** What was set aside for an order has left the stock. */
export interface StockIssued {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** How many pieces. */
  readonly pieces: number;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly issuedAt: string;
}

/** What a command asked of the stock was not done. */
export interface StockRefused {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** Why, for programs: OUT_OF_STOCK, UNKNOWN_ARTICLE, CANCELLED, NOT_RESERVED, ALREADY_ISSUED, INJECTED. */
  readonly reason: string;
  /** The article that is lacking. */
  readonly sku?: string | null;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly refusedAt: string;
}

/** Nothing is set aside for an order any more. */
export interface StockReleased {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** How many pieces became free; 0 if none had been set aside. */
  readonly pieces: number;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When. ISO 8601, UTC, 6 fraction digits. */
  readonly releasedAt: string;
}

/** All that an order needs was set aside. */
export interface StockReserved {
  /** The order; the aggregate id of this event. UUID. */
  readonly orderId: string;
  /** When it is given free again unless it was issued. ISO 8601, UTC, 6 fraction digits. */
  readonly reservedUntil: string;
  /** True when the same command was answered before: this repeats that answer, and nothing happened now. */
  readonly duplicate?: boolean;
  /** When it was set aside. ISO 8601, UTC, 6 fraction digits. */
  readonly reservedAt: string;
}

/** Payload of each event type, by its full name. */
export interface EventPayloads {
  'commerce.ArrangeShipment': ArrangeShipment;
  'commerce.CancelOrder': CancelOrder;
  'commerce.CancelShipment': CancelShipment;
  'commerce.CapturePayment': CapturePayment;
  'commerce.CompleteOrder': CompleteOrder;
  'commerce.ConfirmOrder': ConfirmOrder;
  'commerce.CreditReleased': CreditReleased;
  'commerce.CreditReserved': CreditReserved;
  'commerce.HandOverFailed': HandOverFailed;
  'commerce.HandOverShipment': HandOverShipment;
  'commerce.IssueStock': IssueStock;
  'commerce.OrderAlreadyCancelled': OrderAlreadyCancelled;
  'commerce.OrderAlreadyCompleted': OrderAlreadyCompleted;
  'commerce.OrderAlreadyConfirmed': OrderAlreadyConfirmed;
  'commerce.OrderCancelled': OrderCancelled;
  'commerce.OrderCompleted': OrderCompleted;
  'commerce.OrderConfirmed': OrderConfirmed;
  'commerce.OrderPlaced': OrderPlaced;
  'commerce.PaymentCaptured': PaymentCaptured;
  'commerce.PaymentFailed': PaymentFailed;
  'commerce.PaymentRefunded': PaymentRefunded;
  'commerce.RefundPayment': RefundPayment;
  'commerce.ReleaseStock': ReleaseStock;
  'commerce.ReserveStock': ReserveStock;
  'commerce.ShipmentArranged': ShipmentArranged;
  'commerce.ShipmentCancelled': ShipmentCancelled;
  'commerce.ShipmentHandedOver': ShipmentHandedOver;
  'commerce.ShipmentNotCancellable': ShipmentNotCancellable;
  'commerce.ShipmentRefused': ShipmentRefused;
  'commerce.StockIssued': StockIssued;
  'commerce.StockRefused': StockRefused;
  'commerce.StockReleased': StockReleased;
  'commerce.StockReserved': StockReserved;
}

export type EventType = keyof EventPayloads;
