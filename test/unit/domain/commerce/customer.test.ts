import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  availableCredit,
  type Customer,
  changeCredit,
  releaseCredit,
  reserveCredit,
} from '../../../../src/domain/commerce/customer.ts';
import type { Amount } from '../../../../src/domain/commerce/money.ts';

const cents = (amount: bigint) => amount as Amount;
const customer = (limit: bigint, reserved: bigint): Customer => ({
  id: 'ada',
  currency: 'EUR',
  creditLimit: cents(limit),
  creditReserved: cents(reserved),
});

describe('credit', () => {
  it('is never overspent, whatever is reserved and released', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 500n }), fc.array(fc.bigInt({ min: 1n, max: 200n })), (limit, totals) => {
        let state = customer(limit, 0n);
        for (const total of totals) {
          if (total > availableCredit(state)) {
            assert.throws(() => reserveCredit(state, cents(total), 'EUR'), { code: 'BUSINESS_RULE' });
            state = releaseCredit(state, state.creditReserved);
          } else {
            state = reserveCredit(state, cents(total), 'EUR');
          }
          assert.ok(state.creditReserved >= 0n && state.creditReserved <= limit);
        }
      }),
    );
  });

  it('is in one currency', () => {
    assert.throws(() => reserveCredit(customer(100n, 0n), cents(1n), 'USD'), { code: 'BUSINESS_RULE' });
    assert.throws(() => changeCredit(customer(100n, 1n), cents(100n), 'USD'), { code: 'BUSINESS_RULE' });
    assert.equal(changeCredit(customer(100n, 0n), cents(100n), 'USD').currency, 'USD');
  });

  it('cannot be limited below what is reserved, nor released more than that', () => {
    assert.throws(() => changeCredit(customer(100n, 50n), cents(49n), 'EUR'), { code: 'BUSINESS_RULE' });
    assert.equal(changeCredit(customer(100n, 50n), cents(50n), 'EUR').creditLimit, 50n);
    assert.throws(() => releaseCredit(customer(100n, 50n), cents(51n)), /less credit/);
  });
});
