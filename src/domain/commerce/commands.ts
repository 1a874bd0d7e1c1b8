/** What the commerce module does: each command is rules, rows, events and an audit row in the caller's one transaction. */
import { v7 } from 'uuid';
import { FerryError } from '../../kernel/errors.ts';
import type { ApiEvent, EventWriter } from '../../outbox/event-writer.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { type Actor, recordAudit } from '../audit.ts';
import { type Customer, changeCredit, releaseCredit, reserveCredit } from './customer.ts';
import { type Amount, type Currency, NO_AMOUNT } from './money.ts';
import {
  type CancelReason,
  checkCancellable,
  checkOrderRequest,
  checkTransition,
  type Order,
  type OrderRequest,
  type OrderStatus,
  refusal,
} from './order.ts';
import { OrderBook, type OrderChange } from './order-book.ts';
import {
  creditReleased,
  creditReserved,
  orderCancelled,
  orderCompleted,
  orderConfirmed,
  orderPlaced,
} from './order-events.ts';
import { insertCustomer, insertOrder, lockCustomer, updateCustomers } from './repository.ts';

/**
 * Places an order and reserves its total. Every command locks the order before the customer, so that no two can wait for each other.
 * Throws BUSINESS_RULE, and what EventWriter.write throws.
 */
export async function placeOrder(
  tx: Queryable,
  events: EventWriter,
  actor: Actor,
  request: OrderRequest,
): Promise<OrderChange> {
  const total = checkOrderRequest(request);
  const locked = await lockCustomer(tx, request.customerId);
  if (locked === null) throw refusal('customer-known', '/customerId', 'there is no such customer');
  const { customer, now } = locked;
  const charged = reserveCredit(customer, total, request.currency);

  const placed = {
    id: v7(),
    customerId: customer.id,
    status: 'placed' as const,
    currency: request.currency,
    total,
    customerEmail: request.customerEmail,
    shippingAddress: request.shippingAddress,
    placedAt: now,
    changedAt: now,
  };
  // Events come first: if a schema refuses one, no row has been written.
  const told = [orderPlaced(placed, request.lines), creditReserved(charged, placed)];
  const [event] = await events.writeMany(tx, told, 'application');
  if (event === undefined || event.aggregateVersion === null) throw new Error('an order’s event was given no version');
  const order = { ...placed, version: event.aggregateVersion };
  await insertOrder(tx, order, request.lines);
  await updateCustomers(tx, [charged]);
  await recordAudit(tx, actor, { action: 'order.place', subject: `order/${order.id}`, eventId: event.id });
  return { order, eventId: event.id };
}

export interface CancelRequest {
  readonly orderId: string;
  readonly reason: CancelReason;
  readonly note: string | null;
  /** Of the order's event: those by which a saga knows it for the answer to its command. */
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Cancels an order for its customer and releases its credit; its fulfilment finds out when it asks for the order to be confirmed. Throws
 * NOT_FOUND, CONFLICT once it is confirmed, and what EventWriter.write throws.
 */
export async function cancelOrder(
  tx: Queryable,
  events: EventWriter,
  actor: Actor,
  request: CancelRequest,
): Promise<OrderChange> {
  const book = await OrderBook.open(tx, [request.orderId]);
  const order = book.find(request.orderId);
  if (order !== null) checkCancellable(order);
  undoOrder(book, actor, request);
  const change = (await book.save(tx, events)).get(request.orderId);
  if (change === undefined) throw new Error(`order ${request.orderId} was not changed`);
  return change;
}

/** As `cancelOrder`, for the order's fulfilment: also when it is confirmed. */
export function undoOrder(book: OrderBook, actor: Actor, { orderId, reason, note, headers = {} }: CancelRequest): void {
  endOrder(book, actor, {
    orderId,
    status: 'cancelled',
    action: 'order.cancel',
    eventOf: (order) => ({ ...orderCancelled(order, reason, note), headers }),
  });
}

/** From here on its customer cannot cancel the order. Throws NOT_FOUND or CONFLICT. */
export function confirmOrder(book: OrderBook, actor: Actor, { orderId, headers = {} }: CompleteRequest): void {
  const order = changeable(book, orderId, 'confirmed');
  const confirmed = { ...order, status: 'confirmed' as const, changedAt: book.customerOf(order).now };
  const event = { ...orderConfirmed(confirmed), headers };
  book.take({ order: confirmed, event, actor, action: 'order.confirm' });
}

export type CompleteRequest = Pick<CancelRequest, 'orderId' | 'headers'>;

/**
 * Completes an order that was fulfilled and paid, and releases its credit; one that was never confirmed, since an operator skipped that, is
 * confirmed first, so that everybody sees the same states in the same order. Throws NOT_FOUND or CONFLICT.
 */
export function completeOrder(book: OrderBook, actor: Actor, { orderId, headers = {} }: CompleteRequest): void {
  // Without the headers: the saga's answer is the completion alone.
  if (book.find(orderId)?.status === 'placed') confirmOrder(book, actor, { orderId });
  endOrder(book, actor, {
    orderId,
    status: 'completed',
    action: 'order.complete',
    eventOf: (order) => ({ ...orderCompleted(order), headers }),
  });
}

interface End {
  readonly orderId: string;
  readonly status: 'cancelled' | 'completed';
  readonly action: string;
  readonly eventOf: (order: Order) => ApiEvent;
}

function endOrder(book: OrderBook, actor: Actor, { orderId, status, action, eventOf }: End): void {
  const order = changeable(book, orderId, status);
  const { customer: charged, now } = book.customerOf(order);
  const customer = releaseCredit(charged, order.total);
  const ended = { ...order, status, changedAt: now };
  const credit = { customer, event: creditReleased(customer, ended) };
  book.take({ order: ended, event: eventOf(ended), credit, actor, action });
}

/** The order, if it may become `to`. */
function changeable(book: OrderBook, orderId: string, to: OrderStatus): Order {
  const order = book.find(orderId);
  if (order === null) throw new FerryError('NOT_FOUND', `there is no order ${orderId}`);
  checkTransition(order, to);
  return order;
}

/** Makes a customer or changes its credit; doing it twice is doing it once. Throws BUSINESS_RULE. */
export async function setCustomerCredit(
  tx: Queryable,
  actor: Actor,
  request: { readonly customerId: string; readonly currency: Currency; readonly creditLimit: Amount },
): Promise<Customer> {
  const { customerId: id, currency, creditLimit } = request;
  const fresh: Customer = { id, currency, creditLimit, creditReserved: NO_AMOUNT };
  const isNew = await insertCustomer(tx, fresh);
  const known = isNew ? fresh : (await lockCustomer(tx, id))?.customer;
  if (known === undefined) throw new Error(`customer ${id} vanished`);
  const changed = changeCredit(known, creditLimit, currency);
  await updateCustomers(tx, [changed]);
  await recordAudit(tx, actor, { action: 'customer.credit', subject: `customer/${id}`, eventId: null });
  return changed;
}
