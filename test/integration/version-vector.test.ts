/**
 * Two tables of Postgres as copies of one set of values: each takes writes without the other, tells of them by events that come in random
 * order, several at once, repeated and, until the last exchange, not at all; in the end both hold the same.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatVector, incremented, parseVector, reconcile, type Versioned } from '../../src/inbox/version-vector.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createRandom } from '../support/random.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'ferry-test', { max: 6 });
after(() => pool.end());

type Copy = 'berlin' | 'lisbon';
const COPIES: readonly Copy[] = ['berlin', 'lisbon'];
const other = (copy: Copy): Copy => (copy === 'berlin' ? 'lisbon' : 'berlin');

/** An address, of which the last writer's wins: by a clock that is later than all it has seen, and by name where clocks are equal. */
interface Address {
  readonly at: number;
  readonly by: string;
  readonly street: string;
}

const lastWriter = (a: Address, b: Address) => (a.at > b.at || (a.at === b.at && a.by > b.by) ? a : b);

interface Told {
  readonly id: string;
  readonly state: Versioned<Address>;
}

async function lockState(tx: Queryable, copy: Copy, id: string): Promise<Versioned<Address>> {
  const { rows } = await tx.query<{ value: Address; vector: string }>(
    `select value, vector::text as vector from public.${copy} where id = $1 for update`,
    [id],
  );
  const [row] = rows;
  assert.ok(row);
  return { value: row.value, vector: parseVector(row.vector) };
}

async function store(tx: Queryable, copy: Copy, id: string, { value, vector }: Versioned<Address>): Promise<void> {
  await tx.query(`update public.${copy} set value = $2, vector = $3 where id = $1`, [id, value, formatVector(vector)]);
}

/** A write by the copy's own users; returns the event that tells of it. */
function write(copy: Copy, id: string, clock: number, street: string): Promise<Told> {
  return transaction(pool, async (tx) => {
    const { value, vector } = await lockState(tx, copy, id);
    const at = Math.max(clock, value.at + 1);
    const state = { value: { at, by: copy, street }, vector: incremented(vector, copy) };
    await store(tx, copy, id, state);
    return { id, state };
  });
}

/** What the copy's consumer does with an event of the other. */
async function receive(copy: Copy, { id, state }: Told): Promise<void> {
  await transaction(pool, async (tx) => {
    const local = await lockState(tx, copy, id);
    const kept = reconcile(local, state, lastWriter);
    if (kept !== local) await store(tx, copy, id, kept);
  });
}

const contents = async (copy: Copy) =>
  (await pool.query<{ id: string; vector: object }>(`select id, value, vector from public.${copy} order by id`)).rows;

const ids = ['customer-1', 'customer-2', 'customer-3'];

before(async () => {
  for (const copy of COPIES) {
    await pool.query(`create table public.${copy} (id text primary key, value jsonb not null, vector jsonb not null)`);
    await pool.query(
      `insert into public.${copy} select id, '{"at":0,"by":"","street":"unknown"}', '{}' from unnest($1::text[]) as id`,
      [ids],
    );
  }
});

test('two copies that were cut off from each other hold the same after one exchange', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = createRandom(seed);
  const told: Record<Copy, Told[]> = { berlin: [], lisbon: [] };
  const member = async (): Promise<void> => {
    for (let n = 0; n < 40; n++) {
      const copy = random.pick(COPIES);
      const heard = told[other(copy)];
      if (random.chance(0.5))
        told[copy].push(await write(copy, random.pick(ids), random.between(0, 20), `street ${n}`));
      else if (heard.length > 0) await receive(copy, random.pick(heard));
    }
  };
  await Promise.all([member(), member(), member(), member()]);
  assert.notDeepEqual(await contents('berlin'), await contents('lisbon'), `nothing to mend, seed ${seed}`);

  // The last state of each value suffices: every write before it is contained in it.
  const last = await Promise.all(
    COPIES.map(async (copy) =>
      Promise.all(
        ids.map(async (id) => ({ copy, id, state: await transaction(pool, (tx) => lockState(tx, copy, id)) })),
      ),
    ),
  );
  await Promise.all(last.flat().map(({ copy, ...event }) => receive(other(copy), event)));

  assert.deepEqual(await contents('berlin'), await contents('lisbon'), `seed ${seed}`);
  const vectors = (await contents('berlin')).map(({ vector }) => Object.keys(vector).length);
  assert.deepEqual(vectors, [2, 2, 2], `not every value was written in both places, seed ${seed}`);
});
