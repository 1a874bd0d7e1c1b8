/** Idempotency keys by day: days are made ahead, one goes when all of its answers have expired, and no answer in force goes with it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import type pg from 'pg';
import { findAnswer } from '../../src/http/idempotency-store.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { dropIdempotencyPartitions, ensureIdempotencyPartitions } from '../../src/postgres/partitions.ts';
import { isLockTimeout } from '../../src/postgres/sqlstate.ts';
import { dayAgo } from '../support/old-days.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'idempotency-days');
after(() => pool.end());

async function makePastDay(daysAgo: number): Promise<void> {
  const name = `idempotency_key_${dayAgo(daysAgo).replaceAll('-', '')}`;
  await pool.query(
    `create table ferry.${name} partition of ferry.idempotency_key
     for values from ('${dayAgo(daysAgo)}T00:00:00Z') to ('${dayAgo(daysAgo - 1)}T00:00:00Z')`,
  );
}

/** An answer given at noon of that day; resolves with its key. */
async function answered(daysAgo: number, expiresInHours: number, db: Pick<typeof pool, 'query'> = pool) {
  const key = randomBytes(32);
  await db.query(
    `insert into ferry.idempotency_key (key_hash, fingerprint, status, body, created_at, expires_at)
     values ($1, $1, 201, '{}', $2, clock_timestamp() + make_interval(hours => $3))`,
    [key, `${dayAgo(daysAgo)}T12:00:00Z`, expiresInHours],
  );
  return key;
}

async function days(): Promise<string[]> {
  const { rows } = await pool.query<{ day: string }>('select day::text as day from ferry.idempotency_day order by day');
  return rows.map(({ day }) => day);
}

test('days are made a week ahead, once', async () => {
  await ensureIdempotencyPartitions(pool); // a migration has made them already
  assert.equal((await days()).at(-1), dayAgo(-7));
  assert.equal(await ensureIdempotencyPartitions(pool), 0);
});

test('a day goes once all of its answers have expired; today and what is in force stay', async () => {
  for (const daysAgo of [5, 4, 3]) await makePastDay(daysAgo);
  await answered(5, -1);
  await answered(4, -1);
  const inForce = await answered(4, 1);
  const expiredToday = await answered(0, -1);
  assert.equal(await dropIdempotencyPartitions(pool), 2);
  const left = await days();
  assert.deepEqual(left.slice(0, 1), [dayAgo(4)]);
  assert.ok(left.includes(dayAgo(0)));
  assert.equal((await findAnswer(pool, inForce))?.status, 201);
  assert.equal(await findAnswer(pool, expiredToday), null);
  const { rowCount } = await pool.query('select from ferry.idempotency_key where key_hash = $1', [expiredToday]);
  assert.equal(rowCount, 1);
});

/** While a transaction has looked for an answer, as each POST does first, and a drop waits for it up to `lockTimeout`. */
async function whileDropWaits(
  lockTimeout: string,
  run: (earlier: pg.PoolClient, dropping: Promise<number>) => Promise<void>,
): Promise<void> {
  const setLockTimeout = (value: string) =>
    pool.query(`alter function ferry.drop_idempotency_partitions() set lock_timeout = '${value}'`);
  const earlier = await pool.connect();
  try {
    await setLockTimeout(lockTimeout);
    await earlier.query('begin');
    await findAnswer(earlier, randomBytes(32));
    const dropping = pool
      .query<{ count: number }>('select ferry.drop_idempotency_partitions() as count')
      .then(({ rows }) => rows[0]?.count ?? 0);
    await untilWaiting('AccessExclusiveLock');
    await run(earlier, dropping);
  } finally {
    await earlier.query('rollback');
    earlier.release();
    await setLockTimeout('500ms');
  }
}

async function untilWaiting(mode: 'AccessExclusiveLock' | 'AccessShareLock'): Promise<void> {
  await waitUntil(`somebody waiting for ${mode}`, async () => {
    const { rowCount } = await pool.query('select from pg_locks where not granted and mode = $1', [mode]);
    return (rowCount ?? 0) > 0;
  });
}

test('a request that ends while its day is looked at keeps the day', async () => {
  await makePastDay(6);
  const client = await pool.connect();
  try {
    await client.query('begin');
    const key = await answered(6, 1, client);
    const dropping = dropIdempotencyPartitions(pool);
    await untilWaiting('AccessExclusiveLock');
    await client.query('commit');
    assert.equal(await dropping, 0);
    assert.equal((await findAnswer(pool, key))?.status, 201);
  } finally {
    client.release();
  }
});

test('a request that comes while the drop waits for an earlier one does not wait in a circle with it', async () => {
  await makePastDay(7);
  // Longer than deadlock_timeout: Postgres itself says whether there is a circle, and a slow machine does not.
  await whileDropWaits('30s', async (earlier, dropping) => {
    const later = findAnswer(pool, randomBytes(32));
    await untilWaiting('AccessShareLock');
    await earlier.query('commit');
    assert.deepEqual(await Promise.allSettled([dropping, later]), [
      { status: 'fulfilled', value: 1 },
      { status: 'fulfilled', value: null },
    ]);
  });
});

test('a drop that does not get its lock gives up, and the requests behind it go on', async () => {
  await makePastDay(8);
  await whileDropWaits('2s', async (_earlier, dropping) => {
    const given = assert.rejects(dropping, isLockTimeout);
    const later = findAnswer(pool, randomBytes(32));
    await untilWaiting('AccessShareLock');
    await given;
    assert.equal(await later, null);
  });
});
