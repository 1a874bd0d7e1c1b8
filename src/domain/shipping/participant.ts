/** Shipping as a participant: its commands, and what it answers. */
import { isRefusedOnPurpose } from '../injected-refusal.ts';
import { type Answer, defineParticipant, type Participant, type ParticipantParts } from '../participant.ts';
import { arrangeShipment, cancelShipment, handOverShipment } from './commands.ts';
import { ShipmentBook } from './shipment-book.ts';

export interface ShippingParts extends ParticipantParts {
  /** How many of a hundred orders are refused on purpose, when they are arranged and when they are handed over. */
  readonly faultPercent: number;
}

/** Its group is `<topic prefix>shipment`. */
export function shippingParticipant(parts: ShippingParts): Participant {
  const { faultPercent } = parts;
  return defineParticipant<{ readonly orderId: string }, ShipmentBook>(parts, {
    name: 'shipment',
    prepare: (commands, tx) =>
      ShipmentBook.open(
        tx,
        commands.map(({ payload }) => payload.orderId),
      ),
    finish: (book, tx) => book.save(tx),
    carryOuts: {
      'commerce.ArrangeShipment': async ({ payload: { orderId, customerId, pieces } }, _tx, book): Promise<Answer> => {
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'shipping');
        const result = arrangeShipment(book, { orderId, customerId, pieces, refuse });
        const { duplicate } = result;
        if (result.kind === 'refused') {
          const payload = { orderId, reason: result.reason, duplicate, refusedAt: result.at };
          return { type: 'commerce.ShipmentRefused', payload };
        }
        const { id: shipmentId, changedAt: arrangedAt } = result.shipment;
        return { type: 'commerce.ShipmentArranged', payload: { orderId, shipmentId, duplicate, arrangedAt } };
      },
      'commerce.HandOverShipment': async ({ payload: { orderId } }, _tx, book): Promise<Answer> => {
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'hand-over');
        const result = handOverShipment(book, orderId, { refuse });
        const { duplicate } = result;
        if (result.kind === 'refused') {
          const payload = { orderId, reason: result.reason, duplicate, failedAt: result.at };
          return { type: 'commerce.HandOverFailed', payload };
        }
        const { id: shipmentId, handedOverAt, changedAt } = result.shipment;
        const payload = { orderId, shipmentId, duplicate, handedOverAt: handedOverAt ?? changedAt };
        return { type: 'commerce.ShipmentHandedOver', payload };
      },
      'commerce.CancelShipment': async ({ payload: { orderId } }, _tx, book): Promise<Answer> => {
        const { kind, shipment, duplicate } = cancelShipment(book, orderId);
        if (kind === 'not-cancellable') {
          const handedOverAt = shipment.handedOverAt ?? shipment.changedAt;
          return { type: 'commerce.ShipmentNotCancellable', payload: { orderId, handedOverAt } };
        }
        return { type: 'commerce.ShipmentCancelled', payload: { orderId, duplicate, cancelledAt: shipment.changedAt } };
      },
    },
  });
}
