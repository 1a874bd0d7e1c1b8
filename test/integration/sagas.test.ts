/** Sagas on the real Postgres, with the outbox as the bus: transactions that roll back anywhere, several orchestrators, timers after downtime. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../../src/embedded/ports.ts';
import { correlationHeaders, correlationOf, type SagaCorrelation } from '../../src/events/saga-headers.ts';
import type { EventId } from '../../src/kernel/event-id.ts';
import { newEventId } from '../../src/outbox/emit.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import type { Saga, SagaData } from '../../src/saga/definition.ts';
import { SagaEngine, type SagaReply } from '../../src/saga/engine.ts';
import type { OperatorAction } from '../../src/saga/instance.ts';
import { SagaTimers } from '../../src/saga/timers.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { TRIP_STEPS, type TripData, tripSaga } from '../support/saga-model.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'ferry-test', { max: 8 });
after(() => pool.end());

const TRIP = tripSaga();
/** Waits so long for replies that no timer is due unless a test makes it so. */
const SLOW_TRIP = tripSaga({ version: 2, timeoutMs: 3_600_000 });

const engineOf = (...sagas: Saga[]) => new SagaEngine({ ...quiet, sagas });
const engine = engineOf(TRIP, SLOW_TRIP);

const trip = (key = randomUUID()) => ({ key, data: { orderId: key, amount: 7, receipts: 0 } });
const start = (saga: Saga<TripData>, given = trip()) => transaction(pool, (tx) => engine.start(tx, saga, given));

const reply = (correlation: SagaCorrelation, type: string, value: unknown): SagaReply => ({
  id: newEventId(),
  type,
  headers: correlationHeaders(correlation),
  value,
});
const done = (sagaId: string, step: string, attempt = 1) =>
  reply({ sagaId, step, purpose: 'do', attempt }, 'trip.Done', { amount: 7 });
const take = (...replies: SagaReply[]) => transaction(pool, (tx) => engine.handleReplies(tx, replies));

interface Sent extends SagaCorrelation {
  readonly id: EventId;
  readonly seq: bigint;
  readonly type: string;
  readonly amount: number;
}

/** Commands in the outbox behind a row, in the order of their insertion. */
async function commandsBehind(seq: bigint, sagaId: string | null = null): Promise<Sent[]> {
  const { rows } = await pool.query<{
    id: EventId;
    seq: bigint;
    type: string;
    payload: { amount: number };
    headers: Record<string, string>;
  }>(
    `select id, seq, type, payload, headers from ferry.outbox
     where seq > $1 and ($2::text is null or headers ->> 'ferry_saga_id' = $2) order by seq`,
    [seq, sagaId],
  );
  return rows.flatMap(({ headers, payload, ...row }) => {
    const correlation = correlationOf(headers);
    return correlation === null ? [] : [{ ...row, ...correlation, amount: payload.amount }];
  });
}

async function sagaRow(id: string) {
  const { rows } = await pool.query<{
    state: string;
    step: string | null;
    due: boolean | null;
    error_code: string | null;
    timer_failures: number;
    data: { receipts: number };
    ended: boolean;
  }>(
    `select state, step, due_at <= now() as due, error_code, timer_failures, data, ended_at is not null as ended
     from ferry.saga where id = $1`,
    [id],
  );
  const [row] = rows;
  assert.ok(row !== undefined, `there is no saga ${id}`);
  return row;
}

const makeDue = (ids: readonly string[], ago = '1 second') =>
  pool.query(`update ferry.saga set due_at = now() - $2::interval where id = any($1)`, [ids, ago]);

before(() => engine.register(pool));

describe('one saga', () => {
  test('goes from command to command in one transaction each, and completes', async () => {
    const { id, started } = await start(SLOW_TRIP);
    assert.equal(started, true);
    for (const step of TRIP_STEPS.slice(1)) {
      assert.deepEqual((await commandsBehind(0n, id)).at(-1)?.step, step);
      await take(done(id, step));
    }
    const { state, due, data, ended } = await sagaRow(id);
    assert.deepEqual(
      { state, due, ended, receipts: data.receipts },
      { state: 'completed', due: null, ended: true, receipts: 6 },
    );
    const { rows } = await pool.query<{ broken: number; linked: number }>(
      `select count(*) filter (where from_state is distinct from before)::int as broken,
              (select count(*)::int from ferry.saga_history h join ferry.outbox o on o.id = h.event_id
               where h.saga_id = $1 and h.cause = 'command') as linked
       from (select from_state, step, case when lag(to_state) over w is null then from_state else lag(to_state) over w end as before
             from ferry.saga_history where saga_id = $1 window w as (partition by step order by id)) as chained`,
      [id],
    );
    assert.deepEqual(rows, [{ broken: 0, linked: 6 }]);
  });

  test('is started once for a key, by whoever comes first; several starts of a batch may share one', async () => {
    const given = trip();
    const race = await Promise.all(Array.from({ length: 4 }, () => start(SLOW_TRIP, given)));
    assert.equal(race.filter(({ started }) => started).length, 1);
    assert.equal(new Set(race.map(({ id }) => id)).size, 1);
    const [a, b] = [trip(), trip()];
    const batch = await transaction(pool, (tx) => engine.startMany(tx, SLOW_TRIP, [a, given, a, b]));
    assert.deepEqual(
      batch.map(({ started }) => started),
      [true, false, false, true],
    );
    assert.deepEqual([batch[1]?.id, batch[2]?.id], [race[0]?.id, batch[0]?.id]);
    for (const { id } of batch) assert.equal((await commandsBehind(0n, id)).length, 1);
  });

  test('replies of one batch follow each other, also for one saga; what is no reply is passed over', async () => {
    const { id } = await start(SLOW_TRIP);
    const { id: other } = await start(SLOW_TRIP);
    await take(
      done(id, 'payment'),
      done(randomUUID(), 'payment'),
      { ...done(id, 'payment'), headers: {} },
      { ...done(id, 'payment'), value: null },
      done(other, 'payment'),
      done(id, 'inventory'),
      done(id, 'payment'),
    );
    assert.deepEqual([(await sagaRow(id)).step, (await sagaRow(other)).step], ['shipping', 'inventory']);
    assert.deepEqual(
      (await commandsBehind(0n, id)).map(({ step }) => step),
      ['payment', 'inventory', 'shipping'],
    );
  });

  test('two replies at once wait for one another', async () => {
    const { id } = await start(SLOW_TRIP);
    const goOn = Promise.withResolvers<void>();
    const first = transaction(pool, async (tx) => {
      await engine.handleReply(tx, done(id, 'payment'));
      await goOn.promise;
    });
    await waitUntil('the first holds the row', async () => {
      const { rows } = await pool.query(`select from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'`);
      return rows.length === 1;
    });
    const second = take(done(id, 'payment'), done(id, 'inventory'));
    await waitUntil('the second waits for the first', async () => {
      const { rows } = await pool.query(`select from pg_stat_activity
        where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`);
      return rows.length === 1;
    });
    goOn.resolve();
    await Promise.all([first, second]);
    assert.deepEqual(
      (await commandsBehind(0n, id)).map(({ step, attempt }) => `${step} ${attempt}`),
      ['payment 1', 'inventory 1', 'shipping 1'],
    );
  });
});

describe('definitions', () => {
  test('a version that changed is refused, and one that is gone while a saga of it runs', async () => {
    await engine.register(pool);
    await engineOf(TRIP, SLOW_TRIP, tripSaga({ version: 3 })).register(pool);
    const changed = { ...TRIP, checksum: '0'.repeat(64) };
    await assert.rejects(engineOf(changed, SLOW_TRIP).register(pool), {
      code: 'SAGA_DEFINITION_CHANGED',
      details: { saga: 'trip', version: 1 },
    });
    await start(SLOW_TRIP);
    await assert.rejects(engineOf(TRIP).register(pool), {
      code: 'SAGA_DEFINITION_MISSING',
      details: { saga: 'trip', version: 2 },
    });
  });

  test('an instance goes on with its own version; a process without it leaves its timer to others', async () => {
    const { id } = await start(SLOW_TRIP);
    await makeDue([id]);
    const newer = engineOf(tripSaga({ version: 3 }));
    assert.deepEqual(await newer.runDueTimers(pool, 1_000), { fired: 0, setAside: 0 });
    await assert.rejects(
      transaction(pool, (tx) => newer.handleReply(tx, done(id, 'payment'))),
      { code: 'SAGA_DEFINITION_MISSING' },
    );
    assert.deepEqual(await engine.runDueTimers(pool, 1_000), { fired: 1, setAside: 0 });
  });
});

describe('timers', () => {
  const many = async (count: number) => {
    const started = await transaction(pool, (tx) =>
      engine.startMany(
        tx,
        SLOW_TRIP,
        Array.from({ length: count }, () => trip()),
      ),
    );
    return started.map(({ id }) => id);
  };

  test('thousands that are due since hours are run once each by several orchestrators, in bounded batches', async () => {
    const ids = await many(3_000);
    await makeDue(ids, '7 hours');
    const orchestrators = Array.from({ length: 3 }, () => engineOf(TRIP, SLOW_TRIP));
    const batches: number[] = [];
    await Promise.all(
      orchestrators.map(async (orchestrator) => {
        for (;;) {
          const { fired, setAside } = await orchestrator.runDueTimers(pool, 100);
          assert.equal(setAside, 0);
          if (fired === 0) return;
          batches.push(fired);
        }
      }),
    );
    assert.equal(
      batches.reduce((sum, fired) => sum + fired, 0),
      3_000,
    );
    assert.ok(Math.max(...batches) <= 100);
    const { rows } = await pool.query<{ sagas: number; commands: number; due: number }>(
      `select count(distinct headers ->> 'ferry_saga_id')::int as sagas, count(*)::int as commands,
              (select count(*)::int from ferry.saga where id = any($1) and due_at <= now()) as due
       from ferry.outbox where headers ->> 'ferry_saga_id' = any($1::text[]) and headers ->> 'ferry_saga_attempt' = '2'`,
      [ids],
    );
    assert.deepEqual(rows, [{ sagas: 3_000, commands: 3_000, due: 0 }]);
  });

  test('an instance that fails is set aside by itself, for longer each time, and goes on once that is mended', async () => {
    const ids = await many(9);
    const poison = ids[4] ?? '';
    // A command that no schema of the outbox can hold: the statement of the whole batch fails, and not the definition's own code.
    await pool.query(`update ferry.saga set key = repeat('k', 511) || left(key, 1) where id = $1`, [poison]);
    await pool.query(
      `alter table ferry.outbox add constraint no_long_keys check (octet_length(aggregateid) < 500) not valid`,
    );
    for (let failures = 1; failures <= 3; failures++) {
      await makeDue(failures === 1 ? ids : [poison]);
      assert.deepEqual(await engine.runDueTimers(pool, 100), { fired: failures === 1 ? 8 : 0, setAside: 1 });
      const { due, error_code, timer_failures, state } = await sagaRow(poison);
      assert.deepEqual([due, error_code, timer_failures, state], [false, 'SAGA_TIMER_FAILED', failures, 'running']);
    }
    await pool.query('alter table ferry.outbox drop constraint no_long_keys');
    await makeDue([poison]);
    assert.deepEqual(await engine.runDueTimers(pool, 100), { fired: 1, setAside: 0 });
    const mended = await sagaRow(poison);
    assert.deepEqual([mended.timer_failures, mended.error_code], [0, null]);
    const { rows } = await pool.query(`select from ferry.saga_history where saga_id = $1 and cause = 'set-aside'`, [
      poison,
    ]);
    assert.equal(rows.length, 3);
  });

  test('one whose definition fails on its data is set aside too, and its rows do not hold the error’s text', async () => {
    const failing = {
      ...SLOW_TRIP,
      steps: SLOW_TRIP.steps.map(({ command, ...step }) => ({
        ...step,
        command: command && {
          ...command,
          payload: (data: SagaData) => {
            if (data.amount === 13) throw new TypeError('the secret of thirteen');
            return command.payload(data);
          },
        },
      })),
    };
    const [poison = '', ...sound] = await many(4);
    await pool.query(`update ferry.saga set data = jsonb_set(data, '{amount}', '13') where id = $1`, [poison]);
    await makeDue([poison, ...sound]);
    assert.deepEqual(await engineOf(TRIP, failing).runDueTimers(pool, 100), { fired: 3, setAside: 1 });
    const { rows } = await pool.query(
      `select saga.error, history.reason from ferry.saga_history history join ferry.saga on saga.id = saga_id
       where saga_id = $1 and cause = 'set-aside'`,
      [poison],
    );
    assert.deepEqual(rows, [{ error: 'TypeError', reason: 'TypeError' }]);
  });

  test('while Postgres is away nobody is set aside, and the loop can be stopped', async () => {
    const port = await freePort();
    const away = createPool(
      { ...stack.config, DATABASE_URL: `postgres://nobody@127.0.0.1:${port}/none` },
      'ferry-test',
    );
    await assert.rejects(engine.runDueTimers(away, 10), { code: 'ECONNREFUSED' });
    const timers = new SagaTimers({ ...quiet, engine, pool: away });
    timers.start();
    await timers.stop();
    await away.end();
  });

  test('the loop runs what is due until it is stopped, and stops twice', async () => {
    const ids = await many(250);
    await makeDue(ids, '1 day');
    const timers = new SagaTimers({ ...quiet, engine, pool, pollMs: 10, batchSize: 20 });
    timers.start();
    timers.start();
    await waitUntil('all have run', async () => {
      const { rows } = await pool.query('select from ferry.saga where id = any($1) and due_at <= now()', [ids]);
      return rows.length === 0;
    });
    await Promise.all([timers.stop(), timers.stop()]);
    await makeDue(ids.slice(0, 1));
    assert.equal((await sagaRow(ids[0] ?? '')).due, true);
    await new SagaTimers({ ...quiet, engine, pool }).stop();
    assert.equal((await engine.runDueTimers(pool, 1_000)).fired, 1);
  });
});

test('operators act in the transaction of their audit row', async () => {
  const { id } = await start(SLOW_TRIP);
  const operate = (action: OperatorAction, fail = false) =>
    transaction(pool, async (tx) => {
      const after = await engine.operate(tx, { sagaId: id, action, actor: 'ada', reason: 'the customer called' });
      if (fail) throw new Error('no audit row');
      return after;
    });
  await assert.rejects(operate('compensate', true), /no audit row/);
  assert.equal((await sagaRow(id)).state, 'running');
  assert.equal((await operate('compensate')).state, 'compensating');
  await assert.rejects(operate('cancel'), { code: 'CONFLICT' });
  const { rows } = await pool.query<{ actor: string; reason: string }>(
    `select distinct actor, reason from ferry.saga_history where saga_id = $1 and actor is not null`,
    [id],
  );
  assert.deepEqual(rows, [{ actor: 'ada', reason: 'the customer called' }]);
  await assert.rejects(
    transaction(pool, (tx) => engine.operate(tx, { sagaId: randomUUID(), action: 'retry', actor: 'a', reason: 'b' })),
    { code: 'NOT_FOUND' },
  );
});

test('the group role of consumers is enough; readers only read; the history cannot be changed', async () => {
  const as = <T>(role: string, work: (tx: Queryable) => Promise<T>) =>
    transaction(pool, async (tx) => {
      await tx.query(`set local role ${role}`);
      return work(tx);
    });
  const { id } = await as('ferry_consumer', (tx) => engine.start(tx, SLOW_TRIP, trip()));
  await as('ferry_consumer', (tx) => engine.handleReply(tx, done(id, 'payment')));
  await as('ferry_api', (tx) => engine.operate(tx, { sagaId: id, action: 'retry', actor: 'a', reason: 'b' }));
  for (const table of ['ferry.saga', 'ferry.saga_step', 'ferry.saga_history', 'ferry.saga_definition']) {
    await as('ferry_reader', (tx) => tx.query(`select from ${table}`));
    await assert.rejects(
      as('ferry_reader', (tx) => tx.query(`delete from ${table}`)),
      { code: '42501' },
    );
  }
  await assert.rejects(pool.query('update ferry.saga_history set reason = null'), { code: 'OX003' });
});
