/** The outbox as the database itself defends it, and the two ways to write to it. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { v7 } from 'uuid';
import { type EventId, isEventId } from '../../src/kernel/event-id.ts';
import { emit } from '../../src/outbox/emit.ts';
import { eventStatus } from '../../src/outbox/event-status.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { ensurePartitions, partitionDaysAhead } from '../../src/postgres/partitions.ts';
import { ferryErrorOf } from '../../src/postgres/sqlstate.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool({ DATABASE_URL: stack.databaseUrl, POSTGRES_TLS: 'auto' }, 'ferry-test', { max: 20 });
after(() => pool.end());

const HOUR_MS = 3_600_000;
const idAt = (offsetMs: number) => v7({ msecs: Date.now() + offsetMs }) as EventId;
const event = { aggregateType: 'order', aggregateId: '1', type: 'a.B', payload: { n: 1 } };
const refusedWith = (code: string, message?: RegExp) => (thrown: unknown) => {
  const error = ferryErrorOf(thrown);
  assert.equal(error?.code, code, String(thrown));
  if (message !== undefined) assert.match(error?.message ?? '', message);
  return true;
};

describe('ids', () => {
  it('are taken from one day back to one hour ahead', async () => {
    for (const offset of [-23.9 * HOUR_MS, 0, 0.9 * HOUR_MS])
      assert.ok(await emit(pool, { ...event, id: idAt(offset) }));
    for (const offset of [-24.1 * HOUR_MS, 1.1 * HOUR_MS, -24 * 400 * HOUR_MS, 24 * 400 * HOUR_MS]) {
      await assert.rejects(
        emit(pool, { ...event, id: idAt(offset) }),
        refusedWith('EVENT_ID_INVALID', /UUIDv7 of about now/),
      );
    }
  });

  it('of other versions are refused by name and remedy', async () => {
    const others = [
      '00000000-0000-0000-0000-000000000000',
      'ffffffff-ffff-ffff-ffff-ffffffffffff',
      'c307493b-3fae-46f6-a380-92eb8b260fcd',
      idAt(0).replace(/^(.{14})7/, '$14'), // there and nowhere else: the time may begin with a 7 too
      idAt(0).replace(/-[89ab](?=...-.{12}$)/, '-c'),
    ] as EventId[];
    for (const id of others) await assert.rejects(emit(pool, { ...event, id }), refusedWith('EVENT_ID_INVALID'), id);
    const { hint } = await emit(pool, { ...event, id: others[0] as EventId }).then(assert.fail, (error) => error);
    assert.match(hint, /ferry\.uuidv7\(\)/);
  });

  it('are taken once', async () => {
    const id = idAt(0);
    await emit(pool, { ...event, id });
    await assert.rejects(emit(pool, { ...event, id }), refusedWith('CONFLICT'));
  });

  it('made by ferry.uuidv7() are UUIDv7 of now, each another, mostly ascending', async () => {
    const { rows } = await pool.query<{ id: string }>(
      'select ferry.uuidv7()::text as id from generate_series(1, 2000)',
    );
    const ids = rows.map(({ id }) => id);
    assert.ok(ids.every(isEventId));
    assert.equal(new Set(ids).size, ids.length);
    const descents = ids.filter((id, index) => index > 0 && id < (ids[index - 1] ?? '')).length;
    assert.ok(descents < ids.length / 10, `${descents} descents`);
  });
});

describe('a row', () => {
  it('carries what the database alone decides, whatever the writer says', async () => {
    const { rows } = await pool.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload, seq, recorded_at, tx, inserted_lsn)
       values ('order', '1', 'a.B', '{}', -7, '2001-01-01', '3', '0/1')
       returning seq > 0 as seq, recorded_at > now() - interval '1 minute' as recorded_at, tx = pg_current_xact_id() as tx,
         inserted_lsn between '0/2' and pg_current_wal_insert_lsn() as inserted_lsn`,
    );
    assert.deepEqual(rows, [{ seq: true, recorded_at: true, tx: true, inserted_lsn: true }]);
  });

  it('is refused, with the rule’s name, if it could not become a record', async () => {
    const wrong: Array<[rule: RegExp, columns: string]> = [
      [/aggregateid_length/, `aggregateid = ''`],
      [/aggregateid_length/, `aggregateid = repeat('x', 513)`],
      [/aggregatetype_length/, `aggregatetype = ''`],
      [/type_length/, `type = repeat('x', 256)`],
      [/payload_is_one_kind/, 'payload = null'],
      [/payload_is_one_kind/, 'tombstone = true'],
      [/payload_is_one_kind/, `payload_bytes = '\\x00'`],
      [/headers_are_flat_strings/, `headers = '{"a": 1}'`],
      [/headers_are_flat_strings/, `headers = '{"a": ["b"]}'`],
      [/headers_are_flat_strings/, `headers = '{"a": null}'`],
      [/headers_are_flat_strings/, `headers = '["a"]'`],
      [/headers_are_flat_strings/, `headers = '"a"'`],
      [/aggregateversion_positive/, 'aggregateversion = 0'],
      [/schema_id_positive/, 'schema_id = 0'],
      [/occurred_at_is_a_date/, `occurred_at = 'infinity'`],
      [/traceparent_length/, `traceparent = ''`],
    ];
    for (const [rule, change] of wrong) {
      const [column, value] = change.split(' = ');
      const columns: Record<string, string> = {
        aggregatetype: `'order'`,
        aggregateid: `'1'`,
        type: `'a.B'`,
        payload: `'{}'`,
      };
      columns[column ?? ''] = value ?? '';
      const statement = `insert into ferry.outbox (${Object.keys(columns)}) values (${Object.values(columns)})`;
      await assert.rejects(pool.query(statement), refusedWith('EVENT_MALFORMED', rule), change);
    }
  });

  it('is never changed, deleted or truncated, by anyone, through the root or a partition', async () => {
    await emit(pool, event);
    const { rows } = await pool.query<{ partition: string }>(
      'select distinct tableoid::regclass::text as partition from ferry.outbox where id = any(select id from ferry.outbox limit 1)',
    );
    for (const table of ['ferry.outbox', rows[0]?.partition]) {
      for (const statement of [`update ${table} set type = 'x'`, `delete from ${table}`, `truncate ${table}`]) {
        await assert.rejects(pool.query(statement), refusedWith('OUTBOX_IMMUTABLE'), statement);
      }
    }
    await assert.rejects(pool.query('truncate ferry.outbox_guard_after'), refusedWith('OUTBOX_IMMUTABLE'));
  });

  it('is written as fast as a bulk insert needs', async (t) => {
    const started = performance.now();
    const { rowCount } = await pool.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', (i % 5000)::text, 'a.B', jsonb_build_object('n', i) from generate_series(1, 50000) i`,
    );
    assert.equal(rowCount, 50_000);
    t.diagnostic(`${Math.round(50_000 / ((performance.now() - started) / 1000))} rows/s`);
  });
});

describe('ferry.emit', () => {
  it('writes one event in the caller’s transaction, or none', async () => {
    const { rows } = await pool.query<{ id: EventId }>(
      `select ferry.emit('order', '42', 'a.B', '{"n": 1}', '{"tenant": "t1"}') as id`,
    );
    const id = rows[0]?.id;
    const read = await pool.query(
      'select aggregateid, type, payload, headers, aggregateversion from ferry.outbox where id = $1',
      [id],
    );
    assert.deepEqual(read.rows, [
      { aggregateid: '42', type: 'a.B', payload: { n: 1 }, headers: { tenant: 't1' }, aggregateversion: null },
    ]);
    const undone = transaction(pool, async (tx) => {
      await tx.query(`select ferry.emit('order', 'undone', 'a.B', '{}')`);
      throw new Error('changed my mind');
    });
    await assert.rejects(undone, /changed my mind/);
    assert.equal((await pool.query(`select 1 from ferry.outbox where aggregateid = 'undone'`)).rowCount, 0);
  });
});

describe('emit', () => {
  it('keeps every digit, byte and microsecond', async () => {
    const number = 9_007_199_254_740_993n;
    const occurredAt = '2026-01-02T03:04:05.678901Z';
    const id = await emit(pool, { ...event, payload: { number }, occurredAt, headers: { 'ü"': "'" } });
    const { rows } = await pool.query(
      `select payload->>'number' as number, occurred_at, headers->>'ü"' as header from ferry.outbox where id = $1`,
      [id],
    );
    assert.deepEqual(rows, [{ number: String(number), occurred_at: occurredAt, header: "'" }]);
  });

  it('counts versions without a gap, in the order of commits', async () => {
    const write = () =>
      transaction(pool, (tx) => emit(tx, { ...event, aggregateId: 'counted', aggregateVersion: 'next' }));
    const abandon = () =>
      transaction(pool, async (tx) => {
        await emit(tx, { ...event, aggregateId: 'counted', aggregateVersion: 'next' });
        throw new Error('abandoned');
      }).catch(() => {});
    await Promise.all(Array.from({ length: 30 }, (_, index) => (index % 3 === 0 ? abandon() : write())));
    const { rows } = await pool.query<{ version: bigint }>(
      `select aggregateversion as version from ferry.outbox where aggregateid = 'counted' order by inserted_lsn`,
    );
    assert.deepEqual(
      rows.map(({ version }) => version),
      Array.from({ length: 20 }, (_, index) => BigInt(index + 1)),
    );
  });
});

describe('an event’s status', () => {
  it('is pending until its transaction is published, without the row being touched', async () => {
    const relay = 'status-test';
    const published = await emit(pool, event);
    const dead = await emit(pool, event);
    assert.equal(await eventStatus(pool, published, relay), 'pending');
    await pool.query(
      `insert into ferry.relay_progress (relay, published_snapshot, published_lsn)
       values ($1, pg_current_snapshot(), pg_current_wal_lsn())`,
      [relay],
    );
    await pool.query(
      `insert into ferry.relay_dead_letter (relay, event_id, commit_lsn, seq, error_code) values ($1, $2, '0/1', 1, 'SCHEMA_MISMATCH')`,
      [relay, dead],
    );
    assert.equal(await eventStatus(pool, published, relay), 'published');
    assert.equal(await eventStatus(pool, dead, relay), 'dead-lettered');
    assert.equal(await eventStatus(pool, await emit(pool, event), relay), 'pending');
    assert.equal(await eventStatus(pool, published, 'another-relay'), 'pending');
    assert.equal(await eventStatus(pool, idAt(0), relay), 'unknown');
  });

  it('is not published while an older transaction of the snapshot is still open', async () => {
    const relay = 'open-test';
    const opened = Promise.withResolvers<EventId>();
    const finish = Promise.withResolvers<void>();
    const slow = transaction(pool, async (tx) => {
      opened.resolve(await emit(tx, event));
      await finish.promise;
    });
    const id = await opened.promise;
    await pool.query(
      `insert into ferry.relay_progress (relay, published_snapshot, published_lsn)
       values ($1, pg_current_snapshot(), pg_current_wal_lsn())`,
      [relay],
    );
    assert.equal(await eventStatus(pool, id, relay), 'unknown');
    finish.resolve();
    await slow;
    assert.equal(await eventStatus(pool, id, relay), 'pending');
  });
});

describe('partitions', () => {
  it('that are missing are an error with its remedy, until they are made', async () => {
    const database = createPool({ DATABASE_URL: await stack.createDatabase(), POSTGRES_TLS: 'auto' }, 'ferry-test');
    try {
      // As if nobody had made partitions since the day before yesterday: today falls to the guard.
      await database.query(`
        do $$
        declare dropped record;
        begin
          for dropped in select * from ferry.outbox_day d where d.day >= (now() at time zone 'UTC')::date loop
            execute format('drop table %s', dropped.partition);
          end loop;
          drop table ferry.outbox_guard_after;
          perform ferry.make_outbox_partition('outbox_guard_after',
            quote_literal(ferry.uuid_floor(date_trunc('day', now() at time zone 'UTC') at time zone 'UTC')), 'maxvalue');
        end $$`);
      assert.equal(await partitionDaysAhead(database), -1);
      await assert.rejects(emit(database, event), refusedWith('PARTITION_MISSING'));
      const { hint } = await emit(database, event).then(assert.fail, (error) => error);
      assert.match(hint, /\.\/ferry migrate/);
      assert.equal(await ensurePartitions(database), 31);
      await emit(database, event);
    } finally {
      await database.end();
    }
  });

  it('are made under the eyes of writers, none of whom fails', async () => {
    const database = createPool({ DATABASE_URL: await stack.createDatabase(), POSTGRES_TLS: 'auto' }, 'ferry-test', {
      max: 8,
    });
    try {
      let stop = false;
      let written = 0;
      const write = async () => {
        while (!stop) {
          await emit(database, event);
          written++;
        }
      };
      const writers = Array.from({ length: 4 }, write);
      for (const days of [31, 33, 40]) await database.query('select ferry.ensure_partitions($1)', [days]);
      stop = true;
      await Promise.all(writers);
      assert.equal(await partitionDaysAhead(database), 40);
      const { rows } = await database.query<{ count: bigint }>('select count(*) from ferry.outbox');
      assert.equal(rows[0]?.count, BigInt(written));
    } finally {
      await database.end();
    }
  });
});
