/** Decimals against BigInt arithmetic. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decimalBytes, decimalText, unscaledOfNumber, unscaledOfText } from '../../../src/registry/decimal.ts';

/** The plain definition: sign, digits, point. */
function textOf(unscaled: bigint, scale: number): string {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0');
  const [whole, fraction] = [digits.slice(0, digits.length - scale), digits.slice(digits.length - scale)];
  return `${unscaled < 0n ? '-' : ''}${whole}${scale === 0 ? '' : `.${fraction}`}`;
}

/** Big-endian two's complement by arithmetic modulo 256^length, in as few bytes as hold it. */
function bytesOf(unscaled: bigint): Buffer {
  let length = 1n;
  while (unscaled >= 1n << (8n * length - 1n) || unscaled < -(1n << (8n * length - 1n))) length += 1n;
  const hex = BigInt.asUintN(Number(8n * length), unscaled).toString(16);
  return Buffer.from(hex.padStart(Number(2n * length), '0'), 'hex');
}

const decimals = fc
  .record({ precision: fc.integer({ min: 1, max: 38 }), scaleShare: fc.double({ min: 0, max: 1, noNaN: true }) })
  .chain(({ precision, scaleShare }) =>
    fc.record({
      precision: fc.constant(precision),
      scale: fc.constant(Math.floor(precision * scaleShare)),
      unscaled: fc.bigInt({ min: -(10n ** BigInt(precision)) + 1n, max: 10n ** BigInt(precision) - 1n }),
    }),
  );

test('text to bytes and back is what BigInt arithmetic says', () => {
  fc.assert(
    fc.property(decimals, ({ precision, scale, unscaled }) => {
      const text = textOf(unscaled, scale);
      const parsed = unscaledOfText(text, precision, scale);
      assert.ok(parsed !== null);
      assert.equal(BigInt(parsed), unscaled);
      assert.deepEqual(decimalBytes(parsed), bytesOf(unscaled));
      assert.equal(decimalText(decimalBytes(parsed), scale), text);
    }),
    { numRuns: 2_000 },
  );
});

test('fixed decimals are sign-extended to their size', () => {
  fc.assert(
    fc.property(decimals, ({ scale, unscaled }) => {
      const bytes = decimalBytes(unscaled, 17);
      assert.equal(bytes.length, 17);
      assert.equal(decimalText(bytes, scale), textOf(unscaled, scale));
    }),
  );
});

test('a number is taken only if the scale holds it exactly', () => {
  fc.assert(
    fc.property(decimals, fc.nat(6), ({ precision, scale, unscaled }, zeros) => {
      const source = scale === 0 ? textOf(unscaled, 0) : textOf(unscaled, scale) + '0'.repeat(zeros);
      const parsed = unscaledOfNumber(source, precision, scale);
      assert.ok(parsed !== null, source);
      assert.equal(BigInt(parsed), unscaled);
      assert.equal(unscaledOfNumber(`${source}${scale === 0 ? '.' : ''}1`, precision, scale), null);
    }),
  );
  assert.equal(unscaledOfNumber('12.5', 18, 2), 1250);
  assert.equal(unscaledOfNumber('1e3', 18, 2), 100_000);
  assert.equal(unscaledOfNumber('1.25e-1', 18, 3), 125);
  assert.equal(unscaledOfNumber('1e-3', 18, 2), null);
  assert.equal(unscaledOfNumber('1e-999', 18, 2), null);
  assert.equal(unscaledOfNumber('1e999', 18, 2), null);
  assert.equal(unscaledOfNumber('0.000', 18, 2), 0);
});

test('other forms and too many digits are refused', () => {
  for (const text of ['', '-', '1', '1.2', '1.234', '.50', '01.00', '1,00', '1.00 ', '+1.00', '1e2', 'NaN', '１.00']) {
    assert.equal(unscaledOfText(text, 18, 2), null, text);
  }
  assert.equal(unscaledOfText('999.99', 5, 2), 99_999);
  assert.equal(unscaledOfText('1000.00', 5, 2), null);
  assert.equal(unscaledOfText('-1000.00', 5, 2), null);
  assert.equal(unscaledOfText('1.', 5, 0), null);
  assert.equal(unscaledOfText('-0.00', 5, 2), 0);
});
