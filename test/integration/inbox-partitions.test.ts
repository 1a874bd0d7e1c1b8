/** The inbox's days: made ahead, dropped by age, never made again once they are gone. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readHorizon } from '../../src/inbox/inbox-store.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { dropInboxPartitions, ensureInboxPartitions, PARTITION_DAYS_AHEAD } from '../../src/postgres/partitions.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'inbox-partitions');
after(() => pool.end());

async function days(): Promise<number> {
  const { rows } = await pool.query<{ count: number }>('select count(*)::int as count from ferry.inbox_day');
  return rows[0]?.count ?? 0;
}

test('days older than those kept are dropped, whatever other tables there are, and stay away', async () => {
  await ensureInboxPartitions(pool, 30); // a migration has made them already
  const before = await days();
  const dropped = await dropInboxPartitions(pool, 10);
  assert.equal(dropped, before - 10 - 1 - PARTITION_DAYS_AHEAD);
  assert.ok(dropped > 0);
  assert.equal(await dropInboxPartitions(pool, 10), 0);
  assert.equal(await ensureInboxPartitions(pool, 30), 0);
  assert.equal(await days(), before - dropped);
  const tenDaysAgo = new Date(Date.now() - 10 * 86_400_000).toISOString().slice(0, 10);
  assert.equal((await readHorizon(pool))?.from, `${tenDaysAgo}T00:00:00Z`);
});
