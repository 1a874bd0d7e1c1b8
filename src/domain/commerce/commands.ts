/** What the commerce module does: each command is rules, rows, events and an audit row in the caller's one transaction. */
import { v7 } from 'uuid';
import { FerryError } from '../../kernel/errors.ts';
import type { EventId } from '../../kernel/event-id.ts';
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
  refusal,
} from './order.ts';
import {
  creditReleased,
  creditReserved,
  orderCancelled,
  orderCompleted,
  orderConfirmed,
  orderPlaced,
} from './order-events.ts';
import { insertCustomer, insertOrder, lockCustomer, lockOrder, updateCustomer, updateOrder } from './repository.ts';

export interface OrderChange {
  readonly order: Order;
  /** The event that tells of the change. */
  readonly eventId: EventId;
}

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
  const event = await events.write(tx, orderPlaced(placed, request.lines), 'application');
  await events.write(tx, creditReserved(charged, placed), 'application');
  const order = { ...placed, version: event.aggregateVersion };
  await insertOrder(tx, order, request.lines);
  await updateCustomer(tx, charged);
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
  const order = await lockOrder(tx, request.orderId);
  if (order !== null) checkCancellable(order);
  return undoOrder(tx, events, actor, request);
}

/** As `cancelOrder`, for the order's fulfilment: also when it is confirmed. */
export async function undoOrder(
  tx: Queryable,
  events: EventWriter,
  actor: Actor,
  { orderId, reason, note, headers = {} }: CancelRequest,
): Promise<OrderChange> {
  return endOrder(tx, events, actor, {
    orderId,
    status: 'cancelled',
    action: 'order.cancel',
    eventOf: (order) => ({ ...orderCancelled(order, reason, note), headers }),
  });
}

/** From here on its customer cannot cancel the order. Throws as `cancelOrder` does. */
export async function confirmOrder(
  tx: Queryable,
  events: EventWriter,
  actor: Actor,
  { orderId, headers = {} }: CompleteRequest,
): Promise<OrderChange> {
  const order = await lockOrder(tx, orderId);
  if (order === null) throw new FerryError('NOT_FOUND', `there is no order ${orderId}`);
  checkTransition(order, 'confirmed');
  const locked = await lockCustomer(tx, order.customerId);
  if (locked === null) throw new Error(`order ${orderId} has no customer`);
  const confirmed = { ...order, status: 'confirmed' as const, changedAt: locked.now };
  const event = await events.write(tx, { ...orderConfirmed(confirmed), headers }, 'application');
  const changed = { ...confirmed, version: event.aggregateVersion };
  await updateOrder(tx, changed);
  await recordAudit(tx, actor, { action: 'order.confirm', subject: `order/${orderId}`, eventId: event.id });
  return { order: changed, eventId: event.id };
}

export type CompleteRequest = Pick<CancelRequest, 'orderId' | 'headers'>;

/** Completes an order that was fulfilled and paid, and releases its credit. Throws as `cancelOrder` does. */
export async function completeOrder(
  tx: Queryable,
  events: EventWriter,
  actor: Actor,
  { orderId, headers = {} }: CompleteRequest,
): Promise<OrderChange> {
  return endOrder(tx, events, actor, {
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

async function endOrder(tx: Queryable, events: EventWriter, actor: Actor, end: End): Promise<OrderChange> {
  const order = await lockOrder(tx, end.orderId);
  if (order === null) throw new FerryError('NOT_FOUND', `there is no order ${end.orderId}`);
  checkTransition(order, end.status);
  const locked = await lockCustomer(tx, order.customerId);
  if (locked === null) throw new Error(`order ${order.id} has no customer`);
  const relieved = releaseCredit(locked.customer, order.total);

  const ended = { ...order, status: end.status, changedAt: locked.now };
  const event = await events.write(tx, end.eventOf(ended), 'application');
  await events.write(tx, creditReleased(relieved, ended), 'application');
  const changed = { ...ended, version: event.aggregateVersion };
  await updateOrder(tx, changed);
  await updateCustomer(tx, relieved);
  await recordAudit(tx, actor, { action: end.action, subject: `order/${order.id}`, eventId: event.id });
  return { order: changed, eventId: event.id };
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
  await updateCustomer(tx, changed);
  await recordAudit(tx, actor, { action: 'customer.credit', subject: `customer/${id}`, eventId: null });
  return changed;
}
