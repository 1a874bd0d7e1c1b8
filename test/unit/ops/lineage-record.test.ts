/** The place of an event's record, whatever whoever wrote the record has put into it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describePlace } from '../../../src/ops/lineage-record.ts';

const record = { topic: 't', partition: 1, offset: 7n, key: null, value: null, headers: {}, timestampMs: 0 };

test('a record’s time beyond what Date can tell is the nearest that it can', async () => {
  const timeOf = async (timestampMs: number) =>
    (await describePlace({ ...record, timestampMs }, async () => null)).publishedAt;
  assert.equal(await timeOf(1_767_323_045_678), '2026-01-02T03:04:05.678Z');
  assert.equal(await timeOf(Number.MAX_SAFE_INTEGER), '9999-12-31T23:59:59.999Z');
  assert.equal(await timeOf(-1), '1970-01-01T00:00:00.000Z');
});
