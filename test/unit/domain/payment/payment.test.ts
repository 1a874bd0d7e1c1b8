/** The rules of a payment: the table's transitions and no others, and bookings that balance. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Amount, MAX_AMOUNT } from '../../../../src/domain/commerce/money.ts';
import {
  bookingOf,
  failed,
  hasKey,
  moved,
  type Payment,
  type PaymentStatus,
  TRANSITIONS,
} from '../../../../src/domain/payment/payment.ts';

const STATUSES = Object.keys(TRANSITIONS) as PaymentStatus[];

const payment = (status: PaymentStatus): Payment => ({
  id: '0198d0f0-0000-7000-8000-000000000001',
  idempotencyKey: 'a',
  sourceSystem: 'saga',
  status,
  customerId: 'ada',
  currency: 'EUR',
  amount: 1250n as Amount,
  failure: status === 'failed' ? 'DECLINED' : null,
  changedAt: '2026-01-02T03:04:05.678901Z',
});

describe('a payment', () => {
  for (const from of STATUSES) {
    test(`that is ${from} becomes ${TRANSITIONS[from].join(' or ') || 'nothing else'}`, () => {
      const allowed: readonly string[] = TRANSITIONS[from];
      for (const to of STATUSES) {
        const move = () => (to === 'failed' ? failed(payment(from), 'CANCELLED') : moved(payment(from), to));
        if (!allowed.includes(to)) {
          assert.throws(move, new RegExp(`is ${from} and cannot become ${to}`));
          continue;
        }
        const after = move();
        assert.deepEqual([after.status, after.failure], [to, to === 'failed' ? 'CANCELLED' : null]);
      }
    });
  }

  test('that was captured never fails, and one that failed is never taken: whatever money moved is seen', () => {
    assert.deepEqual(TRANSITIONS.captured, ['refunded']);
    assert.deepEqual(TRANSITIONS.failed, []);
  });

  test('is known by key and source together', () => {
    assert.ok(hasKey(payment('pending'), { idempotencyKey: 'a', sourceSystem: 'saga' }));
    assert.ok(!hasKey(payment('pending'), { idempotencyKey: 'b', sourceSystem: 'saga' }));
    assert.ok(!hasKey(payment('pending'), { idempotencyKey: 'a', sourceSystem: 'command' }));
  });
});

test('each booking adds up to zero, and a refund takes back what the capture booked', () => {
  fc.assert(
    fc.property(fc.bigInt(1n, MAX_AMOUNT), (cents) => {
      const rows = [...bookingOf('capture', cents as Amount), ...bookingOf('refund', cents as Amount)];
      for (const account of ['provider', 'sales'] as const) {
        const booked = rows.filter((row) => row.account === account).map(({ amount }) => amount);
        assert.equal(booked.length, 2);
        assert.equal(
          booked.reduce((sum, amount) => sum + amount, 0n),
          0n,
        );
      }
      assert.equal(
        bookingOf('capture', cents as Amount).reduce((sum, { amount }) => sum + amount, 0n),
        0n,
      );
      assert.equal(bookingOf('capture', cents as Amount)[0]?.amount, cents);
    }),
  );
});
