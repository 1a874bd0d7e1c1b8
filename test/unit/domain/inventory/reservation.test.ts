/** The rules of a reservation: the table's transitions and no others, and what counts as enough. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  checkTransition,
  piecesOf,
  type ReservationStatus,
  shortageOf,
  TRANSITIONS,
} from '../../../../src/domain/inventory/reservation.ts';

const STATUSES = Object.keys(TRANSITIONS) as ReservationStatus[];

describe('a reservation', () => {
  for (const from of STATUSES) {
    test(`that is ${from} becomes ${TRANSITIONS[from].join(' or ') || 'nothing else'}`, () => {
      const allowed: readonly string[] = TRANSITIONS[from];
      for (const to of STATUSES) {
        const move = () => checkTransition({ orderId: 'o-1', status: from }, to);
        if (allowed.includes(to)) move();
        else assert.throws(move, new RegExp(`of o-1 is ${from}, not to be ${to}`));
      }
    });
  }

  test('that ended holds nothing: whoever holds pieces can still give them back', () => {
    for (const status of STATUSES) {
      const next: readonly string[] = TRANSITIONS[status];
      assert.equal(next.includes('issued'), status === 'reserved');
      if (status === 'reserved') assert.ok(next.includes('released'));
    }
  });
});

describe('the stock suffices', () => {
  const lines = [
    { sku: 'TEA', quantity: 2 },
    { sku: 'CUP', quantity: 1 },
  ];
  test('up to the last piece', () => {
    const stock = [
      { sku: 'CUP', available: 1n },
      { sku: 'TEA', available: 2n },
    ];
    assert.equal(shortageOf(lines, stock), null);
    assert.equal(piecesOf(lines), 3);
  });
  test('for all lines or for none', () => {
    const stock = [
      { sku: 'CUP', available: 0n },
      { sku: 'TEA', available: 99n },
    ];
    assert.deepEqual(shortageOf(lines, stock), { reason: 'OUT_OF_STOCK', sku: 'CUP' });
    assert.deepEqual(shortageOf(lines, stock.slice(1)), { reason: 'UNKNOWN_ARTICLE', sku: 'CUP' });
  });
});
