/** Dates and times against Date, and at the edges that Date does not know. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatDate,
  formatTimeOfDay,
  formatTimestamp,
  parseDate,
  parseTimeOfDay,
  parseTimestamp,
} from '../../../src/registry/iso-time.ts';

const FIRST_MS = Date.parse('0000-01-01T00:00:00.000Z');
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z');
const milliseconds = fc.integer({ min: FIRST_MS, max: LAST_MS });

test('milliseconds agree with Date, in both directions', () => {
  fc.assert(
    fc.property(milliseconds, (ms) => {
      const text = new Date(ms).toISOString();
      assert.equal(parseTimestamp(text, 3, true), ms);
      assert.equal(formatTimestamp(ms, 3, true), text);
    }),
    { numRuns: 2_000 },
  );
});

test('micro- and nanoseconds keep every digit', () => {
  fc.assert(
    fc.property(milliseconds, fc.integer({ min: 0, max: 999 }), (ms, more) => {
      const micros = BigInt(ms) * 1000n + BigInt(more);
      const text = `${new Date(ms).toISOString().slice(0, -1)}${String(more).padStart(3, '0')}Z`;
      const parsed = parseTimestamp(text, 6, true);
      assert.ok(parsed !== null);
      assert.equal(BigInt(parsed), micros);
      assert.equal(formatTimestamp(micros, 6, true), text);
    }),
  );
  assert.equal(parseTimestamp('2262-04-11T23:47:16.854775807Z', 9, true), 9_223_372_036_854_775_807n);
  assert.equal(parseTimestamp('2262-04-11T23:47:16.854775808Z', 9, true), null);
  assert.equal(formatTimestamp(-1, 9, false), '1969-12-31T23:59:59.999999999');
});

test('offsets are subtracted, as Date does', () => {
  const zones = fc.tuple(fc.constantFrom('+', '-'), fc.nat(23), fc.nat(59));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_000_000_000_000 }), zones, (ms, [sign, hours, minutes]) => {
      const zone = `${sign}${String(hours).padStart(2, '0')}:${String(minutes).padStart(2, '0')}`;
      const text = `${new Date(ms).toISOString().slice(0, -1)}${zone}`;
      assert.equal(parseTimestamp(text, 3, true), Date.parse(text));
    }),
  );
});

test('what is no time is refused', () => {
  const wrong = [
    '',
    '2025-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2025-13-01T00:00:00Z',
    '2025-04-31T00:00:00Z',
    '2025-01-01T24:00:00Z',
    '2025-01-01T00:60:00Z',
    '2025-01-01T00:00:60Z',
    '2025-01-01T00:00:00',
    '2025-01-01T00:00:00.Z',
    '2025-01-01T00:00:00.1234567Z',
    '2025-01-01 00:00:00Z',
    '2025-01-01T00:00:00+0100',
    '2025-01-01T00:00:00+01:60',
    '2025-01-01T00:00:00Zx',
    '+02025-01-01T00:00:00Z',
    '2025-01-01',
  ];
  for (const text of wrong) assert.equal(parseTimestamp(text, 6, true), null, text);
  assert.equal(parseTimestamp('2025-01-01T00:00:00Z', 6, false), null, 'a local time has no zone');
  assert.equal(parseTimestamp('2000-02-29T00:00:00.120000000Z', 3, true), Date.UTC(2000, 1, 29, 0, 0, 0, 120));
});

test('dates and times of day', () => {
  fc.assert(
    fc.property(fc.integer({ min: FIRST_MS / 86_400_000, max: Math.floor(LAST_MS / 86_400_000) }), (days) => {
      const text = formatDate(days);
      assert.equal(text, new Date(days * 86_400_000).toISOString().slice(0, 10));
      assert.equal(parseDate(text ?? ''), days);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 86_399_999_999 }), (micros) => {
      assert.equal(parseTimeOfDay(formatTimeOfDay(micros, 6) ?? '', 6), micros);
    }),
  );
  assert.equal(parseDate('2025-01-01T00:00:00Z'), null);
  assert.equal(parseTimeOfDay('24:00:00', 3), null);
  assert.equal(formatTimeOfDay(86_400_000, 3), null);
});
