/** The rules of an order, pure: what may be placed, and which state may follow which. */
import { FerryError } from '../../kernel/errors.ts';
import {
  type Amount,
  addAmounts,
  type Currency,
  formatAmount,
  MAX_AMOUNT,
  multiplyAmount,
  NO_AMOUNT,
} from './money.ts';

export interface OrderLine {
  readonly sku: string;
  readonly quantity: number;
  /** Price of one piece. */
  readonly unitPrice: Amount;
}

export interface PostalAddress {
  readonly name: string;
  readonly street: string;
  readonly postalCode: string;
  readonly city: string;
  /** ISO 3166-1 alpha-2. */
  readonly country: string;
}

export const ORDER_STATUSES = ['placed', 'confirmed', 'completed', 'cancelled'] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];

export const CANCEL_REASONS = ['CUSTOMER_REQUEST', 'OUT_OF_STOCK', 'CREDIT_REFUSED', 'OTHER'] as const;
export type CancelReason = (typeof CANCEL_REASONS)[number];

/** An order as it is kept. Times are RFC 3339 in UTC with microseconds. */
export interface Order {
  /** UUIDv7. */
  readonly id: string;
  readonly customerId: string;
  readonly status: OrderStatus;
  readonly currency: Currency;
  readonly total: Amount;
  /** Version of the aggregate's newest event. */
  readonly version: bigint;
  readonly customerEmail: string | null;
  readonly shippingAddress: PostalAddress | null;
  readonly placedAt: string;
  readonly changedAt: string;
}

/** What a customer asks for. */
export interface OrderRequest {
  readonly customerId: string;
  readonly currency: Currency;
  readonly lines: readonly OrderLine[];
  /** The customer's own sum, to be checked, if given. */
  readonly total: Amount | null;
  readonly customerEmail: string | null;
  readonly shippingAddress: PostalAddress | null;
}

export const MAX_LINES = 100;
export const MAX_QUANTITY = 10_000;

/** Which states may follow a state. */
const NEXT: Readonly<Record<OrderStatus, readonly OrderStatus[]>> = {
  placed: ['confirmed', 'cancelled'],
  confirmed: ['completed', 'cancelled'], // cancelled by its fulfilment alone
  completed: [],
  cancelled: [],
};

/** Sum of quantity times unit price. */
export function totalOf(lines: readonly OrderLine[]): Amount {
  return addAmounts(...lines.map((line) => multiplyAmount(line.unitPrice, line.quantity)));
}

/** Checks everything that the request alone can show; returns the total. Throws BUSINESS_RULE naming the rule and the field. */
export function checkOrderRequest(request: OrderRequest): Amount {
  const { lines } = request;
  if (lines.length < 1 || lines.length > MAX_LINES) {
    throw refusal('order-lines', '/lines', `an order has 1 to ${MAX_LINES} lines, not ${lines.length}`);
  }
  const skus = new Set<string>();
  for (const [index, { sku, quantity }] of lines.entries()) {
    if (!Number.isInteger(quantity) || quantity < 1 || quantity > MAX_QUANTITY) {
      throw refusal('line-quantity', `/lines/${index}/quantity`, `a line orders 1 to ${MAX_QUANTITY} pieces`);
    }
    if (skus.has(sku)) throw refusal('sku-once', `/lines/${index}/sku`, 'an article stands in one line only');
    skus.add(sku);
  }
  const total = totalOf(lines);
  if (total <= NO_AMOUNT) throw refusal('order-total', '/lines', 'the total of an order is more than zero');
  if (total > MAX_AMOUNT) {
    throw refusal('order-total', '/lines', `the total of an order is at most ${formatAmount(MAX_AMOUNT)}`);
  }
  if (request.total !== null && request.total !== total) {
    throw refusal('order-total', '/total', `the lines come to ${formatAmount(total)}, which is not the total given`);
  }
  return total;
}

/** Throws CONFLICT unless `to` may follow the order's state. */
export function checkTransition(order: Pick<Order, 'id' | 'status'>, to: OrderStatus): void {
  if (NEXT[order.status].includes(to)) return;
  throw new FerryError('CONFLICT', `order ${order.id} is ${order.status} and cannot become ${to}`, {
    details: { status: order.status },
  });
}

/** Throws CONFLICT for an order that is being handed over. */
export function checkCancellable({ id, status }: Pick<Order, 'id' | 'status'>): void {
  if (status !== 'confirmed') return;
  throw new FerryError('CONFLICT', `order ${id} is confirmed: it is being handed over and cannot be cancelled`, {
    details: { status },
  });
}

/** A refusal by a rule of the business: `path` is the JSON pointer of the field that broke it. */
export function refusal(rule: string, path: string, message: string): FerryError {
  return new FerryError('BUSINESS_RULE', message, { details: { rule, path } });
}
