/** The rules of a shipment: the table's transitions and no others; what the carrier has, nobody cancels. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTransition, type ShipmentStatus, TRANSITIONS } from '../../../../src/domain/shipping/shipment.ts';

const STATUSES = Object.keys(TRANSITIONS) as ShipmentStatus[];

for (const from of STATUSES) {
  test(`a shipment that is ${from} becomes ${TRANSITIONS[from].join(' or ') || 'nothing else'}`, () => {
    const allowed: readonly string[] = TRANSITIONS[from];
    for (const to of STATUSES) {
      const move = () => checkTransition({ orderId: 'o-1', status: from }, to);
      if (allowed.includes(to)) move();
      else assert.throws(move, new RegExp(`of o-1 is ${from} and cannot become ${to}`));
    }
  });
}

test('every shipment can be cancelled until the carrier has it', () => {
  const cancellable = STATUSES.filter((status) => ([] as string[]).concat(TRANSITIONS[status]).includes('cancelled'));
  assert.deepEqual(cancellable.sort(), ['arranged', 'held', 'refused']);
});
