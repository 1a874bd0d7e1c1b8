/**
 * How the commerce module's rows become events: plain JSON in the form of schemas/commerce.*.avsc, which the types generated from them
 * hold at compile time and the encoder at the write.
 */
import type { ApiEvent } from '../../outbox/event-writer.ts';
import { availableCredit, type Customer } from './customer.ts';
import { formatAmount } from './money.ts';
import type { CancelReason, Order, OrderLine } from './order.ts';

type NewOrder = Omit<Order, 'version'>;

export function orderPlaced(order: NewOrder, lines: readonly OrderLine[]): ApiEvent<'commerce.OrderPlaced'> {
  return {
    aggregateType: 'order',
    aggregateId: order.id,
    type: 'commerce.OrderPlaced',
    occurredAt: order.placedAt,
    payload: {
      orderId: order.id,
      customerId: order.customerId,
      customerEmail: order.customerEmail,
      currency: order.currency,
      lines: lines.map(({ sku, quantity, unitPrice }) => ({ sku, quantity, unitPrice: formatAmount(unitPrice) })),
      total: formatAmount(order.total),
      shippingAddress: order.shippingAddress,
      placedAt: order.placedAt,
    },
  };
}

export function orderCancelled(
  order: NewOrder,
  reason: CancelReason,
  note: string | null,
): ApiEvent<'commerce.OrderCancelled'> {
  return {
    aggregateType: 'order',
    aggregateId: order.id,
    type: 'commerce.OrderCancelled',
    occurredAt: order.changedAt,
    payload: {
      orderId: order.id,
      customerId: order.customerId,
      reason,
      note,
      currency: order.currency,
      total: formatAmount(order.total),
      cancelledAt: order.changedAt,
    },
  };
}

export function orderConfirmed(order: NewOrder): ApiEvent<'commerce.OrderConfirmed'> {
  return {
    aggregateType: 'order',
    aggregateId: order.id,
    type: 'commerce.OrderConfirmed',
    occurredAt: order.changedAt,
    payload: { orderId: order.id, customerId: order.customerId, confirmedAt: order.changedAt },
  };
}

export function orderCompleted(order: NewOrder): ApiEvent<'commerce.OrderCompleted'> {
  return {
    aggregateType: 'order',
    aggregateId: order.id,
    type: 'commerce.OrderCompleted',
    occurredAt: order.changedAt,
    payload: {
      orderId: order.id,
      customerId: order.customerId,
      currency: order.currency,
      total: formatAmount(order.total),
      completedAt: order.changedAt,
    },
  };
}

/** `customer` is as it was left. */
export function creditReserved(customer: Customer, order: NewOrder): ApiEvent<'commerce.CreditReserved'> {
  return {
    aggregateType: 'customer',
    aggregateId: customer.id,
    type: 'commerce.CreditReserved',
    occurredAt: order.changedAt,
    payload: { ...creditChange(customer, order), reservedAt: order.changedAt },
  };
}

/** `customer` is as it was left. */
export function creditReleased(customer: Customer, order: NewOrder): ApiEvent<'commerce.CreditReleased'> {
  return {
    aggregateType: 'customer',
    aggregateId: customer.id,
    type: 'commerce.CreditReleased',
    occurredAt: order.changedAt,
    payload: { ...creditChange(customer, order), releasedAt: order.changedAt },
  };
}

function creditChange(customer: Customer, order: NewOrder) {
  return {
    customerId: customer.id,
    orderId: order.id,
    currency: customer.currency,
    amount: formatAmount(order.total),
    available: formatAmount(availableCredit(customer)),
  };
}
