/** What makes no upsert is refused before the database is asked; the upsert itself is tried on it (test/integration). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type LatestRow, type LatestTable, upsertLatest, upsertLatestMany } from '../../../src/inbox/upsert-latest.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';

const untouched: Queryable = { query: () => assert.fail('the database was asked') };
const row: LatestTable & LatestRow = { table: 'orders', key: { id: 1 }, version: 1n, values: { total: '1.00' } };

describe('upsertLatest refuses', () => {
  const refused = (what: string, changes: Partial<typeof row>, error: object) =>
    test(what, () => assert.rejects(upsertLatest(untouched, { ...row, ...changes }), error));

  refused('an event without a version', { version: null }, { code: 'EVENT_UNVERSIONED' });
  refused('a version that none follows', { version: Number.POSITIVE_INFINITY }, RangeError);
  refused('an invalid date', { version: new Date(Number.NaN) }, RangeError);
  refused('a row that nothing identifies', { key: {} }, TypeError);
  refused('a key that is null', { key: { id: null } }, /key column id is null/);
  refused('a misspelt field', { values: { total: undefined as unknown as string } }, /column total has no value/);
  refused('a column named twice', { values: { id: 2 } }, /column id is named twice/);
  refused('the version among the values', { values: { version: 2 } }, /column version is named twice/);
  refused('an empty name', { table: 'shop.' }, RangeError);
  refused('a name with a U+0000', { table: 'or\0ders' }, RangeError);
  refused('a name that Postgres would cut off', { values: { [`${'ä'.repeat(31)}12`]: 1 } }, RangeError);
  refused('a name of three parts', { table: 'ferry.shop.orders' }, RangeError);
});

test('rows with different columns do not go into one statement', async () => {
  const { table, ...first } = row;
  for (const other of [
    { ...first, values: {} },
    { ...first, values: { sum: '1.00' } },
    { ...first, key: { no: 1 } },
  ]) {
    await assert.rejects(upsertLatestMany(untouched, { table, rows: [first, other] }), TypeError);
  }
});

test('no rows are no statement', async () => {
  assert.equal(await upsertLatestMany(untouched, { table: 'orders', rows: [] }), 0);
});
