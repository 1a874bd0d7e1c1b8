/** Refusals on purpose: as many as asked for, the same ones at every try, others at every step. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { isRefusedOnPurpose } from '../../../src/domain/injected-refusal.ts';

const orders = Array.from({ length: 5_000 }, () => randomUUID());
const refusedAt = (step: string, percent: number) =>
  new Set(orders.filter((id) => isRefusedOnPurpose(percent, id, step)));

test('none at 0, all at 100, and about the share in between', () => {
  assert.equal(refusedAt('payment', 0).size, 0);
  assert.equal(refusedAt('payment', 100).size, orders.length);
  const { size } = refusedAt('payment', 20);
  assert.ok(size > 800 && size < 1_200, `${size} of 5000 at 20 %`); // 7 standard deviations
});

test('every try agrees, and every step refuses others', () => {
  const payment = refusedAt('payment', 20);
  assert.deepEqual(refusedAt('payment', 20), payment);
  const both = refusedAt('inventory', 20).intersection(payment).size;
  assert.ok(both > 100 && both < 300, `${both} of 5000 at 20 % of 20 %`);
});

test('a higher share refuses all that a lower one does', () => {
  assert.ok(refusedAt('payment', 10).isSubsetOf(refusedAt('payment', 30)));
});
