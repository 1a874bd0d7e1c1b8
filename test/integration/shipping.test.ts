/** Shipping on a real Postgres: cancelled until the hand-over, never after; and the order's end, by command. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { orderParticipant } from '../../src/domain/commerce/participant.ts';
import { shippingParticipant } from '../../src/domain/shipping/participant.ts';
import { testApi } from '../support/api.ts';
import { correlation, participantLab, type WrittenAnswer } from '../support/participant-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const lab = await participantLab(stack);
const shipping = shippingParticipant({ ...lab.parts, faultPercent: 0 });
const refusing = shippingParticipant({ ...lab.parts, faultPercent: 100 });

function shipmentOf(orderId: string = randomUUID()) {
  const arranged = { type: 'commerce.ArrangeShipment', payload: { orderId, customerId: 'ada', pieces: 3 } } as const;
  return {
    arrange: (by = shipping) => lab.carryOut(by, arranged).then(said),
    handOver: (by = shipping) =>
      lab.carryOut(by, { type: 'commerce.HandOverShipment', payload: { orderId } }).then(said),
    cancel: () => lab.carryOut(shipping, { type: 'commerce.CancelShipment', payload: { orderId } }).then(said),
  };
}

/** Type of the one answer, its reason, and whether it repeats another. */
function said(answers: readonly WrittenAnswer[]): unknown[] {
  assert.equal(answers.length, 1);
  const { type, payload } = answers[0] ?? assert.fail();
  return [type.replace('commerce.', ''), payload.reason ?? null, payload.duplicate === true];
}

describe('a shipment', () => {
  test('is arranged and handed over, and told again when it is asked for again', async () => {
    const { arrange, handOver } = shipmentOf();
    assert.deepEqual(await arrange(), ['ShipmentArranged', null, false]);
    assert.deepEqual(await arrange(), ['ShipmentArranged', null, true]);
    assert.deepEqual(await handOver(), ['ShipmentHandedOver', null, false]);
    assert.deepEqual(await handOver(), ['ShipmentHandedOver', null, true]);
  });

  test('is cancelled until it is handed over, and never after', async () => {
    const [early, late] = [shipmentOf(), shipmentOf()];
    await early.arrange();
    assert.deepEqual(await early.cancel(), ['ShipmentCancelled', null, false]);
    assert.deepEqual(await early.cancel(), ['ShipmentCancelled', null, true]);
    assert.deepEqual(await early.handOver(), ['HandOverFailed', 'CANCELLED', true]);
    await late.arrange();
    await late.handOver();
    assert.deepEqual(await late.cancel(), ['ShipmentNotCancellable', null, false]);
    assert.deepEqual(await late.handOver(), ['ShipmentHandedOver', null, true]);
  });

  test('that is cancelled before it is arranged never is arranged', async () => {
    const { arrange, handOver, cancel } = shipmentOf();
    assert.deepEqual(await cancel(), ['ShipmentCancelled', null, false]);
    assert.deepEqual(await arrange(), ['ShipmentRefused', 'CANCELLED', true]);
    assert.deepEqual(await handOver(), ['HandOverFailed', 'CANCELLED', true]);
  });

  test('that is not arranged is not handed over, also if it is arranged then', async () => {
    const { arrange, handOver } = shipmentOf();
    assert.deepEqual(await handOver(), ['HandOverFailed', 'NOT_ARRANGED', false]);
    assert.deepEqual(await arrange(), ['ShipmentRefused', 'CANCELLED', true]);
    assert.deepEqual(await handOver(), ['HandOverFailed', 'CANCELLED', true]);
  });

  test('that was refused stays refused', async () => {
    const [none, held] = [shipmentOf(), shipmentOf()];
    assert.deepEqual(await none.arrange(refusing), ['ShipmentRefused', 'INJECTED', false]);
    assert.deepEqual(await none.arrange(), ['ShipmentRefused', 'INJECTED', true]);
    assert.deepEqual(await none.cancel(), ['ShipmentCancelled', null, false]);
    await held.arrange();
    assert.deepEqual(await held.handOver(refusing), ['HandOverFailed', 'INJECTED', false]);
    assert.deepEqual(await held.handOver(), ['HandOverFailed', 'INJECTED', true]);
    assert.deepEqual(await held.cancel(), ['ShipmentCancelled', null, false]);
  });

  test('that is handed over and cancelled at once is one of both', async () => {
    for (let round = 0; round < 20; round++) {
      const { arrange, handOver, cancel } = shipmentOf();
      await arrange();
      const [[handedOver], [cancelled]] = await Promise.all([handOver(), cancel()]);
      const ends = [handedOver, cancelled].join();
      assert.ok(['ShipmentHandedOver,ShipmentNotCancellable', 'HandOverFailed,ShipmentCancelled'].includes(ends), ends);
    }
  });
});

describe('an order', async () => {
  const api = await testApi(stack);
  const orders = orderParticipant(lab.parts);

  /** A placed order of 20.00, of a customer with credit for one. */
  async function placed() {
    const customerId = await api.customer('20.00');
    const lines = [{ sku: 'TEA-1', quantity: 2, unitPrice: '10.00' }];
    const { body } = await api.request('POST', '/v1/orders', { body: { customerId, currency: 'EUR', lines } });
    const orderId = String(body.id);
    const step = correlation('completion');
    const end = (type: 'commerce.CancelOrder' | 'commerce.ConfirmOrder' | 'commerce.CompleteOrder') =>
      lab.carryOut(orders, { type, payload: { orderId }, correlation: step });
    return {
      confirm: () => end('commerce.ConfirmOrder'),
      complete: () => end('commerce.CompleteOrder'),
      cancel: () => end('commerce.CancelOrder'),
      cancelByCustomer: async () => (await api.request('POST', `/v1/orders/${orderId}/cancel`, { body: {} })).status,
      status: async () => (await api.request('GET', `/v1/orders/${orderId}`)).body.status,
      credit: async () => (await api.request('GET', `/v1/customers/${customerId}`)).body.creditReserved,
      audited: async () => {
        const { rows } = await lab.pool.query<{ principal: string; action: string }>(
          'select principal, action from ferry.audit where subject = $1 order by id offset 1',
          [`order/${orderId}`],
        );
        return rows.map(({ principal, action }) => [principal, action]);
      },
      step,
    };
  }

  const types = (answers: readonly WrittenAnswer[]) => answers.map(({ type }) => type.replace('commerce.', ''));
  const answering = (answers: readonly WrittenAnswer[], sagaId: string) =>
    answers.filter(({ headers }) => headers.ferry_saga_id === sagaId);

  test('is completed once; its credit is free again, and the answer is the order’s own event', async () => {
    const order = await placed();
    assert.deepEqual(types(await order.confirm()), ['OrderConfirmed']);
    const first = await order.complete();
    assert.deepEqual(types(first), ['OrderCompleted', 'CreditReleased']);
    assert.deepEqual(types(answering(first, order.step.sagaId)), ['OrderCompleted']);
    assert.deepEqual([await order.status(), await order.credit()], ['completed', '0.00']);
    const again = await order.complete();
    assert.deepEqual(types(answering(again, order.step.sagaId)), ['OrderAlreadyCompleted']);
    assert.deepEqual(types(await order.cancel()), ['OrderAlreadyCompleted']);
    const by = `saga:${order.step.sagaId}`;
    assert.deepEqual(await order.audited(), [
      [by, 'order.confirm'],
      [by, 'order.complete'],
    ]);
  });

  test('that was never confirmed, as an operator skipped that, is confirmed and completed at once', async () => {
    const order = await placed();
    const first = await order.complete();
    assert.deepEqual(types(first), ['OrderConfirmed', 'OrderCompleted', 'CreditReleased']);
    assert.deepEqual(types(answering(first, order.step.sagaId)), ['OrderCompleted']);
    assert.deepEqual([await order.status(), await order.credit()], ['completed', '0.00']);
    assert.deepEqual(types(await order.confirm()), ['OrderAlreadyCompleted']);
    assert.equal(await order.cancelByCustomer(), 409);
    const by = `saga:${order.step.sagaId}`;
    assert.deepEqual(await order.audited(), [
      [by, 'order.confirm'],
      [by, 'order.complete'],
    ]);
  });

  test('that is confirmed cannot be cancelled by its customer any more, only by its fulfilment', async () => {
    const order = await placed();
    assert.deepEqual(types(await order.confirm()), ['OrderConfirmed']);
    assert.deepEqual(types(await order.confirm()), ['OrderAlreadyConfirmed']);
    assert.equal(await order.cancelByCustomer(), 409);
    assert.deepEqual(types(await order.cancel()), ['OrderCancelled', 'CreditReleased']);
    assert.deepEqual([await order.status(), await order.credit()], ['cancelled', '0.00']);
  });

  test('that its customer cancelled first is not confirmed', async () => {
    const order = await placed();
    assert.equal(await order.cancelByCustomer(), 200);
    assert.deepEqual(types(await order.confirm()), ['OrderAlreadyCancelled']);
  });

  test('is cancelled once; whoever is late is told so', async () => {
    const order = await placed();
    const first = await order.cancel();
    assert.deepEqual(types(answering(first, order.step.sagaId)), ['OrderCancelled']);
    assert.deepEqual([await order.status(), await order.credit()], ['cancelled', '0.00']);
    assert.deepEqual(types(await order.cancel()), ['OrderAlreadyCancelled']);
    assert.deepEqual(types(await order.complete()), ['OrderAlreadyCancelled']);
    assert.deepEqual(await order.audited(), [[`saga:${order.step.sagaId}`, 'order.cancel']]);
  });

  test('that nobody placed does not end', async () => {
    const command = { type: 'commerce.CancelOrder', payload: { orderId: randomUUID() } } as const;
    await assert.rejects(lab.carryOut(orders, command), { name: 'NonRetryableError' });
  });
});
