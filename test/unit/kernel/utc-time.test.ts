/** Times that records claim: what Postgres would refuse is none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isUtcTime, utcTimeOf } from '../../../src/kernel/utc-time.ts';

test('a time is one of the calendar, in UTC, of the years 0001 to 9999, with nanoseconds at most', () => {
  for (const text of [
    '2026-01-02T03:04:05Z',
    '2026-01-02T03:04:05.123456789Z',
    '2024-02-29T00:00:00Z',
    '0001-01-01T00:00:00Z',
    '9999-12-31T23:59:59.999Z',
  ])
    assert.ok(isUtcTime(text), text);
  for (const text of [
    '',
    'yesterday',
    '2026-02-30T00:00:00Z',
    '2026-01-02T03:04:05+01:00',
    '2026-01-02T24:00:00Z',
    '2026-01-02T03:04:05.Z',
    `2026-01-02T03:04:05.${'1'.repeat(10)}Z`,
    `2026-01-02T03:04:05.${'1'.repeat(140)}Z`,
    '0000-01-01T00:00:00Z',
    '+010000-01-01T00:00:00Z',
  ])
    assert.ok(!isUtcTime(text), text);
});

test('milliseconds beyond the epoch or the year 9999 are the nearest time that there is', () => {
  assert.equal(utcTimeOf(1_767_323_045_678), '2026-01-02T03:04:05.678Z');
  assert.equal(utcTimeOf(-1), '1970-01-01T00:00:00.000Z');
  for (const ms of [2 ** 48 - 1, Number(2n ** 63n - 1n)]) assert.equal(utcTimeOf(ms), '9999-12-31T23:59:59.999Z');
});
