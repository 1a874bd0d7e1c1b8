import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatAmount, MAX_AMOUNT, parseAmount } from '../../../../src/domain/commerce/money.ts';

describe('amounts', () => {
  it('come back from text as they were', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: MAX_AMOUNT }), (cents) => {
        assert.equal(parseAmount(formatAmount(cents)), cents);
      }),
    );
  });

  it('are written with two places', () => {
    assert.equal(formatAmount(5n), '0.05');
    assert.equal(formatAmount(-1250n), '-12.50');
    assert.equal(parseAmount('12.50'), 1250n);
  });

  it('have one form only', () => {
    for (const text of ['1', '1.5', '01.00', '1.000', '-1.00', '1,00', ' 1.00', '1e2', '99999999999.00', '']) {
      assert.throws(() => parseAmount(text), TypeError, text);
    }
  });
});
