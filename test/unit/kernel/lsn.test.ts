/** LSNs are numbers: their text is not padded and must never be compared as text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatLsn, type Lsn, maxLsn, parseLsn, readLsn } from '../../../src/kernel/lsn.ts';

const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => value as Lsn);

test('what Postgres prints is what it means', () => {
  assert.equal(parseLsn('0/0'), 0n);
  assert.equal(parseLsn('16/B374D848'), 0x16_b374_d848n);
  assert.equal(parseLsn('ffffffff/ffffffff'), 2n ** 64n - 1n);
  assert.equal(formatLsn(parseLsn('1/A')), '1/A');
  assert.ok(parseLsn('1/A') > parseLsn('0/FFFFFFFF'));
});

test('text and bytes give back the same position', () => {
  fc.assert(
    fc.property(lsn, fc.nat(5), (value, offset) => {
      assert.equal(parseLsn(formatLsn(value)), value);
      const bytes = Buffer.alloc(offset + 8);
      bytes.writeBigUInt64BE(value, offset);
      assert.equal(readLsn(bytes, offset), value);
    }),
  );
});

test('the greater of two is found whatever their text', () => {
  assert.equal(maxLsn(parseLsn('1/A'), parseLsn('0/FFFFFFFF')), parseLsn('1/A'));
  assert.equal(maxLsn(parseLsn('0/9'), parseLsn('0/10')), parseLsn('0/10'));
});

test('what is no LSN is refused', () => {
  for (const text of ['', '0', '/', '0/', '/0', 'g/0', '0/0/0', ' 0/0', '0/0 ', '0/123456789', '-1/0', '0x1/0']) {
    assert.throws(() => parseLsn(text), TypeError, text);
  }
});
