/** The provider's faults: what may be asked for, and how they are drawn. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedFaults, drawFault, NO_FAULTS } from '../../../src/embedded/payment-faults.ts';

test('a change names known rates from 0 to 1; anything else is refused as a whole', () => {
  assert.deepEqual(changedFaults(NO_FAULTS, { failureRate: 0.5 }), { ...NO_FAULTS, failureRate: 0.5 });
  const changed = changedFaults({ ...NO_FAULTS, timeoutRate: 1 }, { failureRate: 0.5 });
  assert.deepEqual(changed, { ...NO_FAULTS, timeoutRate: 1, failureRate: 0.5 });
  for (const wrong of [{ failureRate: 1.1 }, { failureRate: -0.1 }, { failureRate: '1' }, { other: 0 }, null, 3]) {
    assert.equal(changedFaults(NO_FAULTS, wrong), null, JSON.stringify(wrong));
  }
});

test('each fault has its share of the draws, and they exclude each other', () => {
  const faults = { failureRate: 0.1, timeoutRate: 0.2, lostAnswerRate: 0.3, duplicateRate: 0.2, declineRate: 1 };
  const draws = [0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61, 0.79, 0.81, 0.99].map((random) => drawFault(faults, random));
  assert.deepEqual(draws, [
    ...['failure', 'failure', 'timeout', 'timeout', 'lost-answer', 'lost-answer', 'duplicate', 'duplicate'],
    ...[null, null],
  ]);
  assert.equal(drawFault(NO_FAULTS, 0), null);
});
