/**
 * How an order is fulfilled: the saga that begins when one was placed, and ends with it completed, or cancelled and everything undone. This page
 * is the whole flow; what each command does is its participant's business.
 */
import type { OrderPlaced } from '../../events/generated/payloads.ts';
import { defineSaga, type Saga } from '../../saga/definition.ts';

/** What the saga knows of its order; taken from the event that starts it. A type and not an interface: it is kept as JSON. */
export type FulfilmentData = {
  readonly orderId: string;
  readonly customerId: string;
  readonly currency: string;
  /** Decimal with two places. */
  readonly total: string;
  readonly lines: ReadonlyArray<{ readonly sku: string; readonly quantity: number }>;
};

export function fulfilmentOf({ orderId, customerId, currency, total, lines }: OrderPlaced): FulfilmentData {
  return { orderId, customerId, currency, total, lines: lines.map(({ sku, quantity }) => ({ sku, quantity })) };
}

/**
 * A participant that was killed is back, and has gone on, in less than one time-out. Nor is a long queue a reason to ask again, which would
 * only lengthen it: with 15 s, half of the orders on a machine with fifteen times too much to do were given up.
 */
const PATIENCE = { timeoutMs: 60_000, retry: { maxTries: 5, baseMs: 1_000, maxMs: 30_000 } } as const;

const done = { outcome: 'done' } as const;
const refused = { outcome: 'refused', reason: ({ reason }: { readonly reason: string }) => reason } as const;
const tooLate = (what: string) => ({ outcome: 'refused', reason: () => what }) as const;

const orderOf = ({ orderId }: FulfilmentData) => ({ orderId });
const chargeOf = ({ orderId, customerId, currency, total: amount }: FulfilmentData) => {
  return { orderId, customerId, currency, amount };
};

/** The key of an instance is its order's id. */
export const fulfilment: Saga<FulfilmentData> = defineSaga<FulfilmentData>({
  name: 'fulfilment',
  version: 1,
  steps: [
    {
      name: 'order',
      ...PATIENCE,
      command: null, // it has been placed: that is what starts the saga
      compensation: {
        aggregateType: 'order-command',
        type: 'commerce.CancelOrder',
        payload: orderOf,
        replies: {
          'commerce.OrderCancelled': done,
          'commerce.OrderAlreadyCancelled': done,
          'commerce.OrderAlreadyCompleted': tooLate('the order is completed'),
        },
      },
    },
    {
      name: 'payment',
      ...PATIENCE,
      command: {
        aggregateType: 'payment-command',
        type: 'commerce.CapturePayment',
        payload: chargeOf,
        replies: { 'commerce.PaymentCaptured': done, 'commerce.PaymentFailed': refused },
      },
      compensation: {
        aggregateType: 'payment-command',
        type: 'commerce.RefundPayment',
        payload: chargeOf,
        replies: { 'commerce.PaymentRefunded': done },
      },
    },
    {
      name: 'inventory',
      ...PATIENCE,
      command: {
        aggregateType: 'inventory-command',
        type: 'commerce.ReserveStock',
        payload: ({ orderId, lines }) => ({ orderId, lines }),
        replies: { 'commerce.StockReserved': done, 'commerce.StockRefused': refused },
      },
      compensation: {
        aggregateType: 'inventory-command',
        type: 'commerce.ReleaseStock',
        payload: orderOf,
        replies: { 'commerce.StockReleased': done, 'commerce.StockRefused': refused },
      },
    },
    {
      name: 'shipping',
      ...PATIENCE,
      command: {
        aggregateType: 'shipment-command',
        type: 'commerce.ArrangeShipment',
        payload: ({ orderId, customerId, lines }) => ({ orderId, customerId, pieces: piecesOf(lines) }),
        replies: { 'commerce.ShipmentArranged': done, 'commerce.ShipmentRefused': refused },
      },
      compensation: {
        aggregateType: 'shipment-command',
        type: 'commerce.CancelShipment',
        payload: orderOf,
        replies: {
          'commerce.ShipmentCancelled': done,
          'commerce.ShipmentNotCancellable': tooLate('the carrier has the parcels'),
        },
      },
    },
    {
      name: 'confirmation', // the last moment in which the customer can have changed his mind
      ...PATIENCE,
      command: {
        aggregateType: 'order-command',
        type: 'commerce.ConfirmOrder',
        payload: orderOf,
        replies: {
          'commerce.OrderConfirmed': done,
          'commerce.OrderAlreadyConfirmed': done,
          'commerce.OrderAlreadyCancelled': tooLate('the customer has cancelled the order'),
          'commerce.OrderAlreadyCompleted': tooLate('the order is completed'),
        },
      },
      compensation: null, // the order's own undo cancels it
    },
    {
      name: 'hand-over',
      ...PATIENCE,
      pivot: true, // nobody brings back what a carrier has: from here on only forward
      command: {
        aggregateType: 'shipment-command',
        type: 'commerce.HandOverShipment',
        payload: orderOf,
        replies: { 'commerce.ShipmentHandedOver': done, 'commerce.HandOverFailed': refused },
      },
      compensation: null,
    },
    {
      name: 'stock-out',
      ...PATIENCE,
      command: {
        aggregateType: 'inventory-command',
        type: 'commerce.IssueStock',
        payload: orderOf,
        replies: { 'commerce.StockIssued': done, 'commerce.StockRefused': refused },
      },
      compensation: null,
    },
    {
      name: 'completion',
      ...PATIENCE,
      command: {
        aggregateType: 'order-command',
        type: 'commerce.CompleteOrder',
        payload: orderOf,
        replies: {
          'commerce.OrderCompleted': done,
          'commerce.OrderAlreadyCompleted': done,
          'commerce.OrderAlreadyCancelled': tooLate('the order is cancelled'),
        },
      },
      compensation: null,
    },
  ],
});

function piecesOf(lines: FulfilmentData['lines']): number {
  return lines.reduce((sum, { quantity }) => sum + quantity, 0);
}
