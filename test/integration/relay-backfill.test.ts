/** Rows are read a bounded part at a time, also where many are to be published that came by no stream. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type pg from 'pg';
import { readEvents } from '../../src/outbox/event-reader.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { startOwnPostgres } from '../support/relay-postgres.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(17);
const MIB = 1024 * 1024;
/** A relay that read all of the rows below before it published them would need more. */
const HEAP_MIB = 96;
const ROWS = 400;
const ROW_BYTES = MIB / 2;

describe('the backfill', () => {
  test('publishes large rows in a heap that holds a few', async (t) => {
    const lab = await RelayLab.open(stack, { NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}` });
    t.after(() => lab.close());
    // of no schema, so that they can only be set aside
    await lab.sql(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', 'large-' || n, 'commerce.OrderPlaced', jsonb_build_object('filler', repeat('x', ${ROW_BYTES}))
         from generate_series(1, ${ROWS}) n`,
    );
    await lab.insert([{ aggregateId: 'small', payload: orderPlaced(random) }]);
    lab.rows += ROWS;
    lab.deadLetters = ROWS;
    await lab.stream();
    await lab.assertExactlyOnce();
    t.diagnostic(`peak memory ${Math.round((lab.relay.peakMemoryBytes() ?? 0) / MIB)} MiB`);
  });

  test('waits for rows that the slot counts as committed, and a synchronous standby lets nobody see', async (t) => {
    const server = await startOwnPostgres();
    t.after(() => server.close());
    const lab = await RelayLab.open(stack, { DATABASE_URL: server.databaseUrl });
    t.after(() => lab.close());
    await lab.configure('synchronous_commit', 'local'); // so that the relay's own commits do not queue behind that of the writer
    const clients = await Promise.all([lab.connect(), lab.connect(), lab.connect()]);
    t.after(() => Promise.all(clients.map((client) => client.end())));
    const [first, second, writer] = clients;
    const xidOf = async (client: pg.Client) => {
      const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
      return rows[0]?.xid;
    };
    const untilSlotWaitsFor = (xid: string | undefined) =>
      waitUntil(`the slot waiting for transaction ${xid}`, async () => {
        const waiting = await lab.sql('select from pg_locks where not granted and transactionid::text = $1', [xid]);
        return waiting.rowCount !== 0;
      });
    // the slot takes up what commits between its two waits, and begins behind the second
    await first.query('begin');
    const older = await xidOf(first);
    lab.relay.start();
    await untilSlotWaitsFor(older);
    await second.query('begin');
    const younger = await xidOf(second);
    await first.query('rollback');
    await untilSlotWaitsFor(younger);
    await lab.requireStandby('away');
    await writer.query('set synchronous_commit = remote_apply');
    const hanging = writer.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload) values ('order', 'hidden', 'commerce.OrderPlaced', $1)`,
      [orderPlaced(random)],
    );
    lab.rows += 1;
    await waitUntil('its commit hanging', async () => {
      const { rowCount } = await lab.sql(`select from pg_stat_activity where wait_event = 'SyncRep'`);
      return rowCount === 1;
    });
    await second.query('rollback');
    await lab.relay.waitForLog(
      'the backfill waiting',
      ({ msg }) => msg?.startsWith('rows older than the slot wait') === true,
    );
    await lab.requireStandby('');
    await hanging;
    await untilStreaming(lab.relay);
    await lab.assertExactlyOnce();
  });
});

describe('events read by their ids', async () => {
  const pool = createPool({ DATABASE_URL: await stack.createDatabase(), POSTGRES_TLS: 'auto' }, 'test', { max: 1 });
  after(() => pool.end());
  const gone = '01890000-0000-7000-8000-000000000000';

  test('are as many as fit, and one more, in the order of the ids', async () => {
    const { rows } = await pool.query<{ id: string }>(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', n::text, 'test.Large', jsonb_build_object('filler', repeat('x', ${ROW_BYTES}))
         from generate_series(1, 20) n returning id`,
    );
    const ids = [...rows.map(({ id }) => id).reverse(), gone];
    const keys: string[] = [];
    for (let rest = ids; rest.length > 0; ) {
      const { events, looked } = await readEvents(pool, rest, { maxBytes: 2 * ROW_BYTES });
      assert.ok(events.length <= 2, `${events.length} events in the room of two`);
      assert.ok(looked > 0);
      keys.push(...events.map(({ aggregateId }) => aggregateId));
      rest = rest.slice(looked);
    }
    assert.deepEqual(
      keys,
      Array.from({ length: 20 }, (_, i) => String(20 - i)),
    );
  });

  test('are looked for behind those that are gone, and are as they were edited only if asked for so', async () => {
    const { rows } = await pool.query<{ id: string }>(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', n::text, 'test.Small', jsonb_build_object('n', n) from generate_series(1, 2) n returning id`,
    );
    const [first = '', second = ''] = rows.map(({ id }) => id);
    await pool.query(
      `insert into ferry.event_patch (event_id, payload, by, reason) values ($1, '{"n": 10}', 'test', 'mended')`,
      [first],
    );
    for (const edited of [false, true]) {
      const { events, looked } = await readEvents(pool, [gone, first, gone, second, gone], { maxBytes: 1_000, edited });
      const texts = events.map(({ payload }) => (payload.kind === 'json' ? payload.text : null));
      assert.deepEqual(texts, [edited ? '{"n": 10}' : '{"n": 1}', '{"n": 2}']);
      assert.equal(looked, 5);
    }
  });
});
