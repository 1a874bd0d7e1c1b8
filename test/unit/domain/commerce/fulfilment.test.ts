/** The fulfilment fits its participants: each command has one that carries it out, in the topic that it reads. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { loadConfig } from '../../../../src/config/load.ts';
import { fulfilment, fulfilmentOf } from '../../../../src/domain/commerce/fulfilment.ts';
import { orderParticipant } from '../../../../src/domain/commerce/participant.ts';
import { inventoryParticipant } from '../../../../src/domain/inventory/participant.ts';
import type { Participant } from '../../../../src/domain/participant.ts';
import { paymentParticipant } from '../../../../src/domain/payment/participant.ts';
import { shippingParticipant } from '../../../../src/domain/shipping/participant.ts';
import { topicRoutes } from '../../../../src/events/routes.ts';
import type { AnyCommand } from '../../../../src/saga/definition.ts';

const config = loadConfig({ TOPIC_PREFIX: 'p.' });
const routes = topicRoutes(config);
const nobody = () => Promise.reject(new Error('nothing is done here'));
const limits = { faultPercent: 0, reservationTtlMs: 1_000 };
const parts = { routes, topicPrefix: 'p.', events: { write: nobody, writeMany: nobody }, ...limits };
const provider = { authorise: nobody, capture: nobody, cancel: nobody };
const participants: readonly Participant[] = [
  orderParticipant(parts),
  paymentParticipant({ ...parts, provider }),
  inventoryParticipant(parts),
  shippingParticipant(parts),
];

const commands = fulfilment.steps.flatMap(({ command, compensation }): AnyCommand[] =>
  [command, compensation].filter((one) => one !== null),
);

describe('the fulfilment', () => {
  test('does and undoes in this order', () => {
    const named = fulfilment.steps.map(({ name, command, compensation, pivot }) => [
      name,
      command?.type.replace('commerce.', '') ?? '-',
      compensation?.type.replace('commerce.', '') ?? '-',
      pivot === true,
    ]);
    assert.deepEqual(named, [
      ['order', '-', 'CancelOrder', false],
      ['payment', 'CapturePayment', 'RefundPayment', false],
      ['inventory', 'ReserveStock', 'ReleaseStock', false],
      ['shipping', 'ArrangeShipment', 'CancelShipment', false],
      ['confirmation', 'ConfirmOrder', '-', false],
      ['hand-over', 'HandOverShipment', '-', true],
      ['stock-out', 'IssueStock', '-', false],
      ['completion', 'CompleteOrder', '-', false],
    ]);
  });

  test('sends each command where one participant reads it and carries it out', () => {
    for (const { aggregateType, type } of commands) {
      const carriers = participants.filter(({ handlers }) => handlers.has(type));
      assert.deepEqual(
        carriers.map(({ topics }) => topics),
        [[routes.topicOf(aggregateType)]],
        type,
      );
    }
    const carried = participants.flatMap(({ handlers }) => [...handlers.keys()]).sort();
    assert.deepEqual(carried, commands.map(({ type }) => type).sort());
  });

  test('gives each command what the order says', () => {
    const orderId = '0198d0f0-0000-7000-8000-000000000001';
    const address = { name: 'Ada', street: 'Kanalstraße 7', postalCode: '10115', city: 'Berlin', country: 'DE' };
    const data = fulfilmentOf({
      orderId,
      customerId: 'ada',
      customerEmail: 'ada@example.com',
      currency: 'EUR',
      total: '9.10',
      lines: [
        { sku: 'TEA-1', quantity: 2, unitPrice: '4.50' },
        { sku: 'CUP-9', quantity: 1, unitPrice: '0.10' },
      ],
      shippingAddress: address,
      placedAt: '2026-01-02T03:04:05.678901Z',
    });
    assert.ok(
      !JSON.stringify(data).includes('Berlin') && !JSON.stringify(data).includes('@'),
      'no personal data is kept',
    );
    const payloads = new Map(commands.map(({ type, payload }) => [type.replace('commerce.', ''), payload(data)]));
    const charge = { orderId, customerId: 'ada', currency: 'EUR', amount: '9.10' };
    assert.deepEqual(payloads.get('CapturePayment'), charge);
    assert.deepEqual(payloads.get('RefundPayment'), charge);
    assert.deepEqual(payloads.get('ReserveStock'), {
      orderId,
      lines: [
        { sku: 'TEA-1', quantity: 2 },
        { sku: 'CUP-9', quantity: 1 },
      ],
    });
    assert.deepEqual(payloads.get('ArrangeShipment'), { orderId, customerId: 'ada', pieces: 3 });
    assert.deepEqual(payloads.get('CompleteOrder'), { orderId });
  });

  test('each participant is a group of its own, and holds up no undo behind a command that fails', () => {
    assert.deepEqual(
      participants.map(({ group }) => group),
      ['p.order', 'p.payment', 'p.inventory', 'p.shipment'],
    );
    for (const { settings } of participants) assert.equal(settings.onPoison, 'dead-letter');
  });
});
