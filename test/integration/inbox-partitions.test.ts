/** The inbox's days: made ahead, dropped by age, never made again once they are gone. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { groupFacts } from '../../src/deadletter/group-owner.ts';
import type { LetterToWatch } from '../../src/deadletter/told-letters.ts';
import { claim, known, readHorizon, unclaim } from '../../src/inbox/inbox-store.ts';
import { newEventId } from '../../src/outbox/emit.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { dropInboxPartitions, ensureInboxPartitions, PARTITION_DAYS_AHEAD } from '../../src/postgres/partitions.ts';
import { transaction } from '../../src/postgres/transaction.ts';
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

test('whoever asks for events, or takes them out again, opens no other day than theirs', async () => {
  await ensureInboxPartitions(pool, 30);
  const recordedAt = new Date().toISOString();
  const ids = [newEventId(), newEventId()];
  const events = ids.map((id) => ({ id, recordedAt }));
  const letterOf = (eventId: string): LetterToWatch => ({
    ...{ id: eventId, group: 'days', eventId, recordedAt, sourceTopic: 'commerce.order', key: Buffer.from('k') },
    ...{ state: 'open', retryId: null, toldLsn: null },
  });
  const uses: ReadonlyArray<(tx: Queryable) => Promise<unknown>> = [
    async (tx) => assert.deepEqual(await known(tx, 'days', events), new Set()),
    async (tx) => assert.equal((await groupFacts(tx, ids.map(letterOf))).size, 0),
    async (tx) => {
      assert.deepEqual(await claim(tx, 'days', events, 'applied'), new Set(ids));
      await unclaim(tx, 'days', events);
      assert.deepEqual(await claim(tx, 'days', events, 'applied'), new Set(ids));
    },
  ];
  for (const use of uses) {
    const opened = await transaction(pool, async (tx) => {
      await use(tx);
      const { rows } = await tx.query<{ day: string }>(
        `select to_char(day, 'YYYY-MM-DD') as day from ferry.inbox_day
         where partition in (select relation from pg_locks where pid = pg_backend_pid())`,
      );
      return rows.map(({ day }) => day);
    });
    assert.deepEqual(opened, [recordedAt.slice(0, 10)]);
  }
});
