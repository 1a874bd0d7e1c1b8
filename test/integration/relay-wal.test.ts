/** What the relay meets in the WAL: strangers' messages and tables, long silence, and a transaction larger than its memory. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseLsn } from '../../src/kernel/lsn.ts';
import { relayNames } from '../../src/relay/names.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(7);
/** A relay that gathered 50,000 events before it published them would need more. */
const HEAP_MIB = 64;

describe('the stream', () => {
  test('is not stopped, and not moved, by what else is in the WAL', async (t) => {
    const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '2' });
    t.after(() => lab.close());
    await lab.sql(`create table public.stranger (id int primary key);
                   alter publication ferry_outbox add table public.stranger;
                   alter publication ferry_outbox set (publish = 'insert, update, delete, truncate')`);
    await lab.stream();
    const order = (version: number) =>
      `insert into ferry.outbox (aggregatetype, aggregateid, aggregateversion, type, payload)
       values ('order', 'among-strangers', ${version}, 'commerce.OrderPlaced', '${JSON.stringify(orderPlaced(random))}')`;
    lab.rows += 4;
    // one transaction: the relay splits it, and counts every insert and message in the position
    await lab.sql(`begin;
      ${order(1)};
      insert into public.stranger select generate_series(1, 3);
      select pg_logical_emit_message(true, 'ferry:somebody:heartbeat', 'not ours');
      select pg_logical_emit_message(true, 'ferry:${lab.config.RELAY_NAME}:unheard', 'ours, of no known kind');
      select pg_logical_emit_message(true, 'ferry:${lab.config.RELAY_NAME}:heartbeat', 'forged');
      select pg_logical_emit_message(true, 'ferry:${lab.config.RELAY_NAME}:release', 'forged, and long enough to hold a MAC of 32 bytes');
      update public.stranger set id = id + 10;
      delete from public.stranger where id = 11;
      ${order(2)};
      truncate public.stranger;
      ${order(3)};
      ${order(4)};
      commit`);
    await lab.sql(
      `select pg_logical_emit_message(false, 'ferry:${lab.config.RELAY_NAME}:heartbeat', 'outside of a transaction')`,
    );
    await lab.assertExactlyOnce();
    const places = (await lab.records(lab.topic('order'))).map(({ headers }) => headers.ferry_seq);
    assert.deepEqual(places, ['1', '9', '10', '11']);
    assert.deepEqual(
      lab.relay.lines.filter(({ msg }) => /lost a part/.test(msg)),
      [],
    );
    assert.equal(lab.relay.lines.filter(({ msg }) => /was not sealed with the key of this relay/.test(msg)).length, 1);
  });

  test('goes on through a changed outbox: a column and a constraint that come and go, also in the middle of a transaction', async (t) => {
    const lab = await RelayLab.open(stack);
    t.after(() => lab.close());
    await lab.stream();
    const payload = JSON.stringify(orderPlaced(random));
    let version = 0;
    const insert = () =>
      `insert into ferry.outbox (aggregatetype, aggregateid, aggregateversion, type, payload)
       values ('order', 'through-changes', ${++version}, 'commerce.OrderPlaced', '${payload}')`;
    await lab.sql(insert());
    await lab.sql(`begin; ${insert()};
      alter table ferry.outbox add column region text default 'north', alter column headers set default '{"by":"ddl"}'; ${insert()}; commit`);
    await lab.sql(insert());
    await lab.sql(`begin; alter table ferry.outbox drop column region; ${insert()};
      alter table ferry.outbox add constraint short check (length(aggregateid) < 100) not valid; ${insert()}; rollback`);
    await lab.sql(`alter table ferry.outbox drop column region; ${insert()}`);
    lab.rows += 5;
    await lab.assertExactlyOnce();
    const headers = (await lab.records(lab.topic('order'))).map((record) => record.headers.by);
    assert.deepEqual(headers, [undefined, undefined, 'ddl', 'ddl', 'ddl']);
    assert.equal(lab.relay.lines.filter(({ msg }) => msg === 'streaming').length, 1, 'it had to begin anew');
  });

  test('moves slot and checkpoint while only other tables are written', async (t) => {
    const lab = await RelayLab.open(stack);
    t.after(() => lab.close());
    await lab.sql('create table public.busy (filler text)');
    await lab.stream();
    const slot = async () => {
      const { rows } = await lab.sql<{ confirmed: string }>(
        'select confirmed_flush_lsn::text as confirmed from pg_replication_slots where slot_name = $1',
        [relayNames(lab.config).slot],
      );
      return parseLsn(rows[0]?.confirmed ?? '');
    };
    await lab.sql(`insert into public.busy select repeat('x', 1000) from generate_series(1, 2000)`);
    const { rows } = await lab.sql<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
    const written = parseLsn(rows[0]?.lsn ?? '');
    await waitUntil('the slot moving past it', async () => (await slot()) > written);
    const checkpoint = (await lab.checkpoints()).at(-1);
    assert.ok(checkpoint !== undefined && checkpoint.endLsn > written);
  });

  test('carries a transaction of 50,000 rows in parts, whole, in a heap that would not hold it', async (t) => {
    const lab = await RelayLab.open(stack, {
      RELAY_BATCH_MAX_EVENTS: '500',
      RELAY_BUFFER_MAX_BYTES: '4194304',
      NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`,
    });
    t.after(() => lab.close());
    await lab.stream();
    await lab.sql(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', 'order-' || n % 100, 'commerce.OrderPlaced', $1 from generate_series(1, 50000) n`,
      [JSON.stringify(orderPlaced(random))],
    );
    lab.rows += 50_000;
    await lab.assertExactlyOnce();
    t.diagnostic(`peak memory ${Math.round((lab.relay.peakMemoryBytes() ?? 0) / 1024 / 1024)} MiB`);
    assert.equal(lab.relay.lines.filter(({ msg }) => msg === 'streaming').length, 1, 'it had to begin anew');
    const largest = Math.max(...(await lab.checkpoints()).map(({ partial }) => partial?.seq ?? 0));
    assert.ok(largest >= 40_000, 'it was not published in parts');
  });
});
