/** Keeping the latest version of rows on a real Postgres: in any order, from several connections, whatever columns are called. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type LatestRow, upsertLatest, upsertLatestMany } from '../../src/inbox/upsert-latest.ts';
import { ExactNumber } from '../../src/kernel/exact-json.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createRandom } from '../support/random.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'ferry-test', { max: 8 });
after(() => pool.end());

const seed = Math.floor(Math.random() * 2 ** 31);
const random = createRandom(seed);
const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map((item) => ({ item, place: random.next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);

/** A table of its own, `public.<name>`. */
async function table(
  name: string,
  columns = 'id text primary key, version bigint not null, state text',
): Promise<string> {
  await pool.query(`create table public.${name} (${columns})`);
  return name;
}

const rowsOf = async (name: string, columns = 'id, version::int as version, state') =>
  (await pool.query(`select ${columns} from ${name} order by 1`)).rows;

const order = (id: string, version: number, state = `${id} ${version}`): LatestRow => ({
  key: { id },
  version,
  values: { state },
});

describe('one row', () => {
  test('is inserted, overwritten by a later version, and by no other', async () => {
    const name = await table('plain');
    const put = (version: number) => upsertLatest(pool, { table: name, ...order('o-1', version) });
    assert.deepEqual(
      [await put(2), await put(1), await put(2), await put(5), await put(4)],
      [true, false, false, true, false],
    );
    assert.deepEqual(await rowsOf(name), [{ id: 'o-1', version: 5, state: 'o-1 5' }]);
  });

  test('without a version of its own takes any', async () => {
    const name = await table('unversioned', 'id text primary key, version bigint, state text');
    await pool.query(`insert into ${name} values ('o-1', null, 'by hand')`);
    assert.equal(await upsertLatest(pool, { table: name, ...order('o-1', 1) }), true);
    assert.deepEqual(await rowsOf(name), [{ id: 'o-1', version: 1, state: 'o-1 1' }]);
  });

  test('may have a key of several columns, no values, and a version that is a time', async () => {
    const name = await table('dated', 'shop int, id uuid, "at" timestamptz, unique (shop, id)');
    const put = (at: Date | string) =>
      upsertLatest(pool, {
        table: `public.${name}`,
        key: { shop: 1, id: '019b7c5e-8c00-7000-8000-000000000001' },
        version: at,
        versionColumn: 'at',
        values: {},
      });
    const first = '2026-01-02T03:04:05.000001Z';
    assert.deepEqual(
      [await put(first), await put(new Date('2026-01-02T03:04:05Z')), await put(first)],
      [true, false, false],
    );
    assert.equal(await put(new Date('2026-01-02T03:04:06Z')), true);
  });

  test('keeps every digit, byte and letter, whatever the columns are', async () => {
    const columns = `id bigint primary key, version numeric, amount numeric, ratio float8, paid boolean, at timestamptz, day date,
      bytes bytea, document jsonb, list jsonb, words text[], text text, nothing text`;
    const name = await table('typed', columns);
    const at = new Date('2026-01-02T03:04:05.678Z');
    const values = {
      amount: new ExactNumber('12345678901234567890.123456789012345678'),
      ratio: Number.NEGATIVE_INFINITY,
      paid: false,
      at,
      day: at,
      bytes: Buffer.from([0, 255, 92]),
      document: { digits: 9_007_199_254_740_993n, text: `it's "quoted" \\ é 🚢`, none: null },
      list: [1, 'two'],
      words: ['a,b', '"c"', '{}'],
      text: `'); drop table public.typed; --`,
      nothing: null,
    };
    await upsertLatest(pool, { table: name, key: { id: 2n ** 63n - 1n }, version: 2n ** 70n, values });
    const [row] = await rowsOf(
      name,
      `id, version, amount, ratio, paid, at, day::text, bytes, document::text, list, words, text, nothing`,
    );
    assert.deepEqual(row, {
      ...values,
      id: 2n ** 63n - 1n,
      version: String(2n ** 70n),
      amount: values.amount.source,
      at: '2026-01-02T03:04:05.678000Z',
      day: '2026-01-02',
      document: `{"none": null, "text": "it's \\"quoted\\" \\\\ é 🚢", "digits": 9007199254740993}`,
    });
  });

  test('is refused where nothing identifies it', async () => {
    const name = await table('keyless', 'id text, version bigint, state text');
    await assert.rejects(upsertLatest(pool, { table: name, ...order('o-1', 1) }), { code: '42P10' });
  });
});

describe('names', () => {
  const odd = [
    'select',
    'Ä "quoted" column',
    `x"; drop table public.victim; --`,
    `'); delete from public.victim; --`,
    '$1',
    'a.b',
  ];

  test('are names and nothing else', async () => {
    await table('victim');
    await upsertLatest(pool, { table: 'victim', ...order('o-1', 1) });
    const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
    const schema = 'Odd "schema"; --';
    const [key = '', versionColumn = '', ...columns] = odd;
    await pool.query(`create schema ${quoted(schema)}`);
    for (const name of odd) {
      const place = `${quoted(schema)}.${quoted(name)}`;
      await pool.query(`create table ${place} (${quoted(key)} text primary key, ${quoted(versionColumn)} bigint,
        ${columns.map((column) => `${quoted(column)} text`).join(', ')})`);
      const put = (version: number) =>
        upsertLatest(pool, {
          table: [schema, name],
          key: { [key]: 'k' },
          version,
          versionColumn,
          values: Object.fromEntries(columns.map((column) => [column, `${column} ${version}`])),
        });
      assert.deepEqual([await put(1), await put(2), await put(1)], [true, true, false]);
      const { rows } = await pool.query(`select * from ${place}`);
      const values = Object.fromEntries(columns.map((column) => [column, `${column} 2`]));
      assert.deepEqual(rows, [{ [key]: 'k', [versionColumn]: 2n, ...values }]);
    }
    assert.equal((await rowsOf('victim')).length, 1);
  });

  test('that do not exist are an error, not SQL', async () => {
    await table('exists');
    const row = order('o-1', 1);
    for (const name of odd) {
      await assert.rejects(upsertLatest(pool, { table: ['public', name], ...row }), { code: '42P01' }, name);
      const values = { [name]: '' };
      await assert.rejects(upsertLatest(pool, { table: 'exists', ...row, values }), { code: '42703' }, name);
    }
  });
});

describe('many rows', () => {
  test('are one statement, in which the latest of each key wins', async () => {
    const name = await table('batch');
    await upsertLatest(pool, { table: name, ...order('stored', 5) });
    const rows = [order('a', 1), order('stored', 4), order('a', 3), order('a', 2), order('b', 1), order('b', 1)];
    assert.equal(await upsertLatestMany(pool, { table: name, rows }), 2);
    assert.deepEqual(await rowsOf(name), [
      { id: 'a', version: 3, state: 'a 3' },
      { id: 'b', version: 1, state: 'b 1' },
      { id: 'stored', version: 5, state: 'stored 5' },
    ]);
  });
});

describe('writers at once', () => {
  const members = <T>(work: readonly T[], apply: (item: T) => Promise<unknown>) => {
    const left = [...work];
    const member = async () => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) await apply(next);
    };
    return Promise.all(Array.from({ length: 6 }, member));
  };

  test('of the same rows leave the latest version of each', async () => {
    const name = await table('contended');
    const ids = ['o-1', 'o-2', 'o-3'];
    const versions = ids.flatMap((id) => Array.from({ length: 60 }, (_, i) => order(id, i + 1)));
    const applied: string[] = [];
    await members(shuffled([...versions, ...versions]), async (row) => {
      if (await transaction(pool, (tx) => upsertLatest(tx, { table: name, ...row })))
        applied.push(String(row.values.state));
    });
    const latest = ids.map((id) => ({ id, version: 60, state: `${id} 60` }));
    assert.deepEqual(await rowsOf(name), latest, `seed ${seed}`);
    assert.equal(new Set(applied).size, applied.length, `a version was applied twice, seed ${seed}`);
    assert.ok(applied.length < versions.length, 'no version came late: the test has shown nothing');
  });

  test('of overlapping batches never wait for each other in a circle', async () => {
    const name = await table('batches');
    const ids = Array.from({ length: 40 }, (_, i) => `o-${i}`);
    const batches = Array.from({ length: 60 }, (_, version) => shuffled(ids).map((id) => order(id, version)));
    await members(shuffled(batches), (rows) =>
      transaction(pool, (tx) => upsertLatestMany(tx, { table: name, rows }), { retries: 0 }),
    );
    const stored = await rowsOf(name);
    assert.equal(stored.length, ids.length);
    assert.ok(
      stored.every(({ version }) => version === 59),
      `seed ${seed}`,
    );
  });
});
