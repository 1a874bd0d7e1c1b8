/** Old days of the outbox on real parts: dropped when nothing needs them, kept with the reason otherwise, put back when that shows late. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, beforeEach, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { noFailPoints } from '../../src/kernel/fail-point.ts';
import { runRetention } from '../../src/ops/retention.ts';
import { RetentionKeeper } from '../../src/ops/retention-keeper.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { ensurePartitions } from '../../src/postgres/partitions.ts';
import { SerialClient } from '../../src/postgres/serial-client.ts';
import { relayNames } from '../../src/relay/names.ts';
import { resetRelay } from '../../src/relay/reset.ts';
import { dayAgo, makeOldDays, noteDroppedDay, writeOldEvents } from '../support/old-days.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const lab = await RelayLab.open(stack);
after(() => lab.close());
const databaseUrl = lab.environment.DATABASE_URL ?? '';
let db: SerialClient;
before(async () => {
  db = await SerialClient.connect(lab.config, 'retention-test', () => {});
});
after(() => db.end());

const actor = { principal: 'cli:anna', requestId: null };
const retain = (changes: Partial<Parameters<typeof runRetention>[0]> = {}) =>
  runRetention({ db, deadLetters: db, daysKept: 30, dryRun: false, actor, failPoint: noFailPoints, ...changes });
/** What became of each old day, by how many days ago it was. */
const outcomes = async (changes: Parameters<typeof retain>[0] = {}) =>
  (await retain(changes)).map(({ day, outcome, hold }) => [day, outcome, hold?.reason ?? null]);
const partitions = async () => {
  const { rows } = await lab.sql<{ day: string }>(
    `select day::text from ferry.outbox_day where day < current_date - 2 order by 1`,
  );
  return rows.map(({ day }) => day);
};

/** A day so many days ago with so many events, which the relay has published; resolves with the first one's id. */
async function publishedDay(daysAgo: number, events: number): Promise<string | undefined> {
  await makeOldDays(databaseUrl, [daysAgo]);
  const [id] = await writeOldEvents(databaseUrl, daysAgo, events);
  await lab.untilPublished(id);
  return id;
}

/** A connection that is ended with the test at the latest: what it holds open would keep the days of those that follow. */
async function connectReader(t: TestContext): Promise<pg.Client> {
  const reader = new pg.Client({ connectionString: databaseUrl });
  t.after(() => reader.end());
  await reader.connect();
  return reader;
}

describe('without a relay', () => {
  test('nothing goes: nobody has published anything', async () => {
    await makeOldDays(databaseUrl, [33, 32]);
    await writeOldEvents(databaseUrl, 33, 10);
    assert.deepEqual(await outcomes({ dryRun: true }), [
      [dayAgo(33), 'kept', 'no-relay'],
      [dayAgo(32), 'kept', 'no-relay'],
    ]);
    assert.deepEqual(await partitions(), [dayAgo(33), dayAgo(32)]);
  });
});

describe('with a relay', () => {
  before(() => lab.stream());
  beforeEach(async () => {
    await waitUntil('all old days having gone', async () => {
      await retain();
      return (await partitions()).length === 0;
    });
  });

  test('days that are published go, younger ones stay, and the events of both are known', async () => {
    await makeOldDays(databaseUrl, [40, 31, 30]);
    const old = await writeOldEvents(databaseUrl, 40, 30);
    const kept = await writeOldEvents(databaseUrl, 30, 5);
    await lab.untilPublished(kept[0]);
    for (const id of [old[0], kept[0]])
      await lab.sql(
        `insert into ferry.event_patch (event_id, payload, by, reason) values ($1, '{}', 'test', 'mended')`,
        [id],
      );
    assert.deepEqual(await outcomes({ dryRun: true }), [
      [dayAgo(40), 'would be dropped', null],
      [dayAgo(31), 'would be dropped', null],
    ]);
    const reports = await retain();
    assert.deepEqual(
      reports.map(({ day, rows, outcome }) => [day, rows, outcome]),
      [
        [dayAgo(40), 30n, 'dropped'],
        [dayAgo(31), 0n, 'dropped'],
      ],
    );
    assert.deepEqual(await partitions(), [dayAgo(30)]);
    const patches = await lab.sql('select event_id from ferry.event_patch');
    assert.deepEqual(patches.rows, [{ event_id: kept[0] }], 'what an operator made of an event goes with its day');
    assert.equal(await lab.statusOf(old[0]), 'unknown');
    assert.equal(await lab.statusOf(kept[0]), 'published');
    const { rows } = await lab.sql<{ subject: string }>(
      `select subject from ferry.audit where action = 'outbox.drop-day' order by id`,
    );
    assert.deepEqual(
      rows.slice(-2).map(({ subject }) => subject),
      [`outbox/${dayAgo(40)}`, `outbox/${dayAgo(31)}`],
    );
    // 35 + 10 records, 30 of them of rows that are gone: neither missing nor unexpected
    const report = await lab.count();
    assert.deepEqual([report.unexpected, report.missing, report.duplicates], [0, 0, 0]);
    // the guard says again what is wrong with an id below the oldest day
    const bad = lab.sql(
      `insert into ferry.outbox (id, aggregatetype, aggregateid, type, payload) values ($1, 'a', 'b', 'c', '{}')`,
      [old[0]],
    );
    await assert.rejects(bad, { code: 'OX001' });
    assert.deepEqual(await outcomes({ daysKept: 29 }), [[dayAgo(30), 'dropped', null]]);
  });

  test('a relay that starts again finds its last event in a day that was dropped, and not in one that never was', async () => {
    await makeOldDays(databaseUrl, [35]);
    const [last] = (await writeOldEvents(databaseUrl, 35, 3)).slice(-1);
    await lab.untilPublished(last);
    assert.deepEqual(await outcomes(), [[dayAgo(35), 'dropped', null]]);
    await lab.relay.kill();
    await lab.stream();
    assert.equal((await lab.checkpoints()).at(-1)?.lastEventId, last, 'nothing was published since');
    await lab.relay.kill();
    await lab.sql(`delete from ferry.outbox_retired where day = $1`, [dayAgo(35)]);
    lab.relay.start();
    await lab.relay.waitForLog('the refusal', ({ code, err }) =>
      JSON.stringify([code, err]).includes('RELAY_HISTORY_DIVERGED'),
    );
    await lab.relay.kill();
    await noteDroppedDay(databaseUrl, 35);
    await lab.stream();
  });

  test('a day whose rows are not published stays; it goes when they are', async () => {
    await lab.relay.kill();
    await makeOldDays(databaseUrl, [34]);
    const ids = await writeOldEvents(databaseUrl, 34, 20);
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'kept', 'unpublished']]);
    await lab.stream();
    await lab.untilPublished(ids.at(-1));
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'dropped', null]]);
  });

  test('while the relay is away nothing is detached, though all of it is published', async () => {
    await makeOldDays(databaseUrl, [34]);
    const ids = await writeOldEvents(databaseUrl, 34, 1);
    await lab.untilPublished(ids[0]);
    await lab.relay.kill();
    assert.deepEqual(await outcomes({ publishTimeoutMs: 200 }), [[dayAgo(34), 'kept', 'unpublished']]);
    assert.deepEqual(await partitions(), [dayAgo(34)]);
    await lab.stream();
  });

  test('a dead letter that nobody has dealt with keeps its day, also one that shows when the day is detached already', async () => {
    await makeOldDays(databaseUrl, [34, 33]);
    const [letter] = await writeOldEvents(databaseUrl, 34, 4);
    const [late] = await writeOldEvents(databaseUrl, 33, 4);
    await lab.untilPublished(late);
    const note = (id: string | undefined) =>
      lab.sql(
        `insert into ferry.relay_dead_letter (relay, event_id, commit_lsn, seq, error_code) values ($1, $2, '0/1', 0, 'PAYLOAD_MISMATCH')`,
        [lab.config.RELAY_NAME, id],
      );
    await note(letter);
    let detachedFor = 0;
    const failPoint = (name: string) => {
      if (name === 'retention-detached' && detachedFor++ === 0) blocker = note(late);
    };
    let blocker: Promise<unknown> = Promise.resolve();
    assert.deepEqual(await outcomes({ failPoint }), [
      [dayAgo(34), 'kept', 'dead-letter'],
      [dayAgo(33), 'kept', 'dead-letter'],
    ]);
    await blocker;
    assert.equal(detachedFor, 1);
    assert.deepEqual(await partitions(), [dayAgo(34), dayAgo(33)], 'put back');
    assert.equal(await lab.statusOf(late), 'dead-lettered');
    await assert.rejects(lab.sql('update ferry.outbox set type = $2 where id = $1', [late, 'x']), { code: 'OX003' });
    await assert.rejects(lab.sql(`truncate ferry.outbox_${dayAgo(33).replaceAll('-', '')}`), { code: 'OX003' });

    // The store knows better than the relay's note; a letter of a consumer counts as one of the relay's
    const keep = (id: string | undefined, group: string | null, state: string, original: string) =>
      lab.sql(
        `insert into ferry.dead_letter (id, consumer_group, event_id, source_topic, source_position, headers, original_record, code, error_type,
           error_message, retry_count, max_retries, first_failed_at, failed_at, replayable, topic, partition, record_offset, state)
         values (ferry.uuidv7(), $2, $1, 't', '0/0', '{}', $4, 'HANDLER_FAILED', 'E', 'm', 0, 0, now(), now(), true, 't.dlq', 0, 0, $3)`,
        [id, group, state, original],
      );
    await keep(letter, null, 'discarded', 'value');
    await keep(letter, 'billing', 'resolved', 'value');
    await keep(late, null, 'replaying', `outbox:${late}`);
    assert.deepEqual(await outcomes(), [
      [dayAgo(34), 'dropped', null],
      [dayAgo(33), 'kept', 'claim-check'],
    ]);
    await lab.sql(`update ferry.dead_letter set state = 'resolved' where event_id = $1`, [late]);
    await keep(late, 'billing', 'open', 'value');
    assert.deepEqual(await outcomes(), [[dayAgo(33), 'kept', 'dead-letter']]);
    await lab.sql(`update ferry.dead_letter set state = 'discarded' where event_id = $1`, [late]);
    assert.deepEqual(await outcomes(), [[dayAgo(33), 'dropped', null]]);
    await lab.sql('delete from ferry.relay_dead_letter');
  });

  test('an event that waits behind a parked key keeps its day, and so does a replay that has not ended', async () => {
    const parked = await publishedDay(32, 2);
    const recordedAt = `${dayAgo(32)}T12:00:00Z`;
    await lab
      .sql(
        `create table ferry.inbox_old partition of ferry.inbox for values from ('${dayAgo(33)}T00:00:00Z') to ('${dayAgo(31)}T00:00:00Z')`,
      )
      .catch(
        (error: pg.DatabaseError) => assert.equal(error.code, '42P17'), // the day has one: it overlaps
      );
    await lab.sql(
      `insert into ferry.inbox (consumer_group, event_id, recorded_at, outcome) values ('billing', $1, $2, 'parked')`,
      [parked, recordedAt],
    );
    await lab.sql(
      `insert into ferry.parked_key (consumer_group, topic, key, source_partition, event_id, error_code, events, dead_letter_partition, dead_letter_offset)
       values ('billing', 't', 'k', 0, $1, 'HANDLER_FAILED', 1, 0, 0)`,
      [parked],
    );
    assert.deepEqual(await outcomes(), [[dayAgo(32), 'kept', 'parked-key']]);
    await lab.sql('delete from ferry.parked_key');
    await lab.sql(
      `insert into ferry.replay (id, relay, state, selection, new_ids, events_per_second, reason, requested_by, snapshot, first_seq, last_seq, cursor_seq)
       select ferry.uuidv7(), 'other', 'paused', '{}', false, 1, 'a test', 'cli:anna', pg_current_snapshot(), 1, max(seq), 0 from ferry.outbox`,
    );
    assert.deepEqual(await outcomes(), [[dayAgo(32), 'kept', 'replay']]);
    await lab.sql(`update ferry.replay set state = 'cancelled', ended_at = now()`);
    assert.deepEqual(await outcomes(), [[dayAgo(32), 'dropped', null]]);
  });

  test('a role that does not own the outbox is told so', async () => {
    await publishedDay(34, 1);
    const foreign = await SerialClient.connect(lab.config, 'foreign', () => {});
    await foreign.query('set role ferry_api');
    const reports = await retain({ db: foreign }).finally(() => foreign.end());
    assert.deepEqual(
      reports.map(({ hold }) => hold?.reason),
      ['not-owner'],
    );
  });

  test('a transaction that has the outbox open is waited for a short time only, and hides no day from others', async (t) => {
    const id = await publishedDay(34, 2);
    const reader = await connectReader(t);
    await reader.query('begin; select 1 from ferry.outbox limit 1');
    const since = performance.now();
    await waitUntil('the transaction being long', () => performance.now() - since > 2_100);
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'kept', 'locked']]);
    assert.equal(await lab.statusOf(id), 'published');
    await reader.query('commit');
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'dropped', null]]);
  });

  test('a detaching that a transaction held up is finished by the next run', async (t) => {
    await publishedDay(34, 2);
    const reader = await connectReader(t);
    let opened: Promise<unknown> = Promise.resolve();
    const failPoint = (name: string) => {
      if (name === 'retention-noted') opened = reader.query('begin; select 1 from ferry.outbox limit 1');
    };
    assert.deepEqual(await outcomes({ failPoint }), [[dayAgo(34), 'kept', 'locked']]);
    await opened;
    const { slot, name } = relayNames(lab.config);
    await assert.rejects(resetRelay(db, { name: 'other', slot: `${slot}_other` }, 'a test'), /being taken out/);
    assert.equal(name, lab.config.RELAY_NAME);
    await ensurePartitions(db);
    await reader.query('commit');
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'dropped', null]]);
  });

  test('a day that somebody opens after its detaching is left to the next run', async (t) => {
    const id = await publishedDay(34, 2);
    const reader = await connectReader(t);
    const opensBeforeTheDrop: Queryable = {
      query: async (text, values) => {
        const table = /^drop table (\S+)$/.exec(text)?.[1];
        if (table !== undefined) await reader.query(`begin; lock table ${table} in access share mode`);
        return db.query(text, values);
      },
    };
    assert.deepEqual(await outcomes({ db: opensBeforeTheDrop }), [[dayAgo(34), 'kept', 'locked']]);
    assert.equal(await lab.statusOf(id), 'unknown', 'as if it had been dropped: the outbox does not hold it any more');
    await reader.query('commit');
    assert.deepEqual(await outcomes(), [[dayAgo(34), 'dropped', null]]);
  });

  test('a guard that somebody has open is moved behind the day later', async (t) => {
    await publishedDay(34, 2);
    const reader = await connectReader(t);
    const opensTheGuard: Queryable = {
      query: async <R extends pg.QueryResultRow>(text: string, values?: unknown[]) => {
        const result = await db.query<R>(text, values);
        if (text.startsWith('drop table')) {
          await reader.query('begin; lock table ferry.outbox_guard_before in access share mode');
        }
        return result;
      },
    };
    const guard = async () => {
      const { rows } = await lab.sql<{ bound: string }>(
        `select pg_get_expr(relpartbound, oid) as bound from pg_class where oid = 'ferry.outbox_guard_before'::regclass`,
      );
      return rows[0]?.bound;
    };
    const before = await guard();
    assert.deepEqual(await outcomes({ db: opensTheGuard }), [[dayAgo(34), 'dropped', null]]);
    assert.equal(await guard(), before);
    await reader.query('commit');
    await ensurePartitions(db);
    assert.notEqual(await guard(), before);
  });

  test('one process at a time; the keeper lets the other work', async () => {
    const other = await SerialClient.connect(lab.config, 'other', () => {});
    await publishedDay(34, 2);
    let second: Promise<unknown> = Promise.resolve();
    const failPoint = (name: string) => {
      if (name === 'retention-noted') second = assert.rejects(retain({ db: other }), { code: 'CONFLICT' });
    };
    assert.deepEqual(await outcomes({ failPoint }), [[dayAgo(34), 'dropped', null]]);
    await second;
    await other.end();

    await makeOldDays(databaseUrl, [34]);
    const dropped: number[] = [];
    const metrics = {
      outboxDaysKept: { record: () => {} },
      outboxDaysDroppedTotal: { add: (n: number) => void dropped.push(n) },
    };
    await lab.sql('delete from ferry.outbox_retired');
    const keeper = new RetentionKeeper({
      settings: lab.config,
      deadLetters: db,
      failPoint: noFailPoints,
      logger: quiet.logger,
      metrics,
    });
    keeper.start();
    await waitUntil('the keeper dropping the day', () => dropped.length > 0);
    assert.deepEqual(await partitions(), []);
    await keeper.stop();
    assert.deepEqual(dropped, [1]);
  });

  test('the command tells what it does', async () => {
    await makeOldDays(databaseUrl, [36, 35]);
    const [letter] = await writeOldEvents(databaseUrl, 36, 3);
    const [id] = await writeOldEvents(databaseUrl, 35, 2);
    await lab.untilPublished(id);
    await lab.sql(
      `insert into ferry.relay_dead_letter (relay, event_id, commit_lsn, seq, error_code) values ($1, $2, '0/1', 0, 'PAYLOAD_MISMATCH')`,
      [lab.config.RELAY_NAME, letter],
    );
    const ferry = (...args: string[]) =>
      promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../src/main.ts'), 'retention', ...args], {
        env: { ...process.env, ...lab.environment },
      });
    const dry = await ferry('--dry-run');
    assert.match(dry.stdout, new RegExp(`${dayAgo(36)} +3 +kept +dead-letter: 1 events .*${letter}`));
    assert.match(dry.stdout, new RegExp(`${dayAgo(35)} +2 +would be dropped`));
    const { days } = JSON.parse((await ferry('--json')).stdout);
    assert.deepEqual(
      days.map(({ day, rows, outcome }: Record<string, unknown>) => [day, rows, outcome]),
      [
        [dayAgo(36), '3', 'kept'],
        [dayAgo(35), '2', 'dropped'],
      ],
    );
    await lab.sql('delete from ferry.relay_dead_letter');
  });
});
