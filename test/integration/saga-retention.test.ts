/** Ended sagas are dropped with all that was known of them, and no others. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SagaRetention } from '../../src/ops/saga-retention.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'saga-retention');
after(() => pool.end());

interface Age {
  readonly startedDays: number;
  /** Null: it has not ended. */
  readonly endedDays: number | null;
}

/** By key. */
const SAGAS: Readonly<Record<string, Age>> = {
  ...Object.fromEntries(Array.from({ length: 25 }, (_, i) => [`old-${i}`, { startedDays: 200 - i, endedDays: 100 }])),
  'ended-lately': { startedDays: 150, endedDays: 89 },
  'short-and-young': { startedDays: 1, endedDays: 0 },
  stuck: { startedDays: 199, endedDays: null },
};
const KEPT = ['ended-lately', 'short-and-young', 'stuck'];

before(async () => {
  await pool.query(`insert into ferry.saga_definition (name, version, checksum) values ('trip', 1, '')`);
  for (const [key, { startedDays, endedDays }] of Object.entries(SAGAS)) {
    await pool.query(
      `with saga as (
         insert into ferry.saga (id, name, version, key, state, data, started_at, ended_at)
         values (ferry.uuid_floor(now() - $2 * interval '1 day'), 'trip', 1, $1,
                 case when $3::int is null then 'stuck' else 'completed' end, '{}',
                 now() - $2 * interval '1 day', now() - $3::int * interval '1 day') returning id
       ), history as (
         insert into ferry.saga_history (saga_id, cause, to_state)
         select id, 'start', 'running' from saga, generate_series(1, 3) returning saga_id
       )
       select count(*) from history`,
      [key, startedDays, endedDays],
    );
  }
  await pool.query(
    `insert into ferry.saga_step (saga_id, step, state, attempt, undo_attempt) select id, 'hotel', 'done', 1, 0 from ferry.saga`,
  );
});

async function keys(): Promise<string[]> {
  const { rows } = await pool.query<{ key: string }>('select key from ferry.saga order by key');
  return rows.map(({ key }) => key);
}

async function run(settings: { SAGA_RETENTION: number; INBOX_RETENTION_DAYS: number }, done: () => Promise<boolean>) {
  const dropped: number[] = [];
  const retention = new SagaRetention({
    ...quiet,
    pool,
    settings,
    batchSize: 10,
    intervalMs: 20,
    metrics: { sagasDroppedTotal: { add: (sagas: number) => void dropped.push(sagas) } },
  });
  retention.start();
  await waitUntil('the sagas being dropped', done);
  await retention.stop();
  return dropped;
}

const turns = (n: number) => async () => n-- === 0;

test('none is dropped for ever, and none before the inbox has forgotten its events', async () => {
  assert.deepEqual(await run({ SAGA_RETENTION: 0, INBOX_RETENTION_DAYS: 30 }, turns(3)), []);
  assert.deepEqual(await run({ SAGA_RETENTION: 30, INBOX_RETENTION_DAYS: 120 }, turns(3)), []);
  assert.equal((await keys()).length, Object.keys(SAGAS).length);
});

test('those that ended before are dropped in batches, with steps and history; others stay, whenever they started', async () => {
  const isThrough = async () => (await keys()).length === KEPT.length;
  const dropped = await run({ SAGA_RETENTION: 90, INBOX_RETENTION_DAYS: 30 }, isThrough);
  assert.deepEqual(dropped, [10, 10, 5]);
  assert.deepEqual(await keys(), KEPT);
  const left = await pool.query<{ steps: number; history: number; orphans: number }>(
    `select (select count(*)::int from ferry.saga_step) as steps, (select count(*)::int from ferry.saga_history) as history,
            (select count(*)::int from ferry.saga_history where saga_id not in (select id from ferry.saga)) as orphans`,
  );
  assert.deepEqual(left.rows[0], { steps: KEPT.length, history: KEPT.length * 3, orphans: 0 });
  const audit = await pool.query(`select principal, reason from ferry.audit where action = 'sagas.drop' order by id`);
  assert.deepEqual(
    audit.rows,
    [10, 10, 5].map((sagas) => ({
      principal: 'ferry:ops',
      reason: `${sagas} sagas that ended more than 90 days ago`,
    })),
  );
});

test('nobody else takes history away, not even its owner, and nobody that of today', async () => {
  await pool.query('select ferry.drop_ended_sagas(now(), 100)');
  assert.ok((await keys()).includes('short-and-young'));
  const refused = { code: 'OX003' };
  await assert.rejects(pool.query('delete from ferry.saga_history'), refused);
  await assert.rejects(pool.query(`update ferry.saga_history set reason = 'another'`), refused);
  await assert.rejects(pool.query('truncate ferry.saga_history'), refused);
});

test('a saga whose row somebody has locked is left to the next turn', async () => {
  await pool.query(
    `insert into ferry.saga (id, name, version, key, state, data, ended_at)
     values (ferry.uuid_floor(now() - interval '201 days'), 'trip', 1, 'late-reply', 'completed', '{}', now() - interval '100 days')`,
  );
  const drop = async () => {
    const { rows } = await pool.query(`select ferry.drop_ended_sagas(now() - interval '90 days', 10) as dropped`);
    return rows[0]?.dropped;
  };
  await transaction(pool, async (tx) => {
    await tx.query(`select from ferry.saga where key = 'late-reply' for update`);
    assert.equal(await drop(), 0);
  });
  assert.equal(await drop(), 1);
});
