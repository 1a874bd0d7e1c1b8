/** Two relays of one name: one works, the other waits, and whatever becomes of the first, nothing is lost, doubled or fenced by a zombie. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { formatLsn } from '../../src/kernel/lsn.ts';
import { relayNames } from '../../src/relay/names.ts';
import type { FerryProcess } from '../support/processes.ts';
import { RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const WRITERS = { rowsPerSecond: 400, largestTransaction: 600 };
/** wal_sender_timeout is 10 s: until then Postgres believes in a frozen relay. */
const TAKEOVER_DEADLINE_MS = 60_000;

describe('a standby', () => {
  test('takes over from a relay that was killed, again and again', async (t) => {
    const { lab, standby } = await pairedLab(t);
    const writing = lab.startWriting(WRITERS);
    let [active, waiting] = [lab.relay, standby];
    for (let round = 0; round < 3; round++) {
      await active.kill();
      const killedAt = performance.now();
      await untilStreaming(waiting);
      t.diagnostic(`took over after ${Math.round(performance.now() - killedAt)} ms`);
      [active, waiting] = [waiting, active];
      waiting.start();
      await untilStandingBy(waiting);
    }
    await writing.stop();
    await lab.assertExactlyOnce();
  });

  test('takes over from a relay that froze, and the one that wakes up neither publishes nor fences', async (t) => {
    const { lab, standby } = await pairedLab(t);
    const writing = lab.startWriting(WRITERS);
    await untilPublishing(lab);
    lab.relay.freeze();
    await untilStreaming(standby, TAKEOVER_DEADLINE_MS);
    lab.relay.thaw();
    await untilStandingBy(lab.relay);
    const published = (await lab.records(lab.topic('order'))).length;
    await waitUntil('the new relay going on', async () => (await lab.records(lab.topic('order'))).length > published);
    await writing.stop();
    await lab.assertExactlyOnce();
    assert.equal(standby.lines.filter(({ msg }) => msg === 'streaming').length, 1, 'the living relay was disturbed');
    assert.equal(lab.relay.lines.filter(({ msg }) => msg === 'streaming').length, 1, 'the zombie streamed again');
  });

  test('takes over from a relay that was asked to stop', async (t) => {
    const { lab, standby } = await pairedLab(t);
    const writing = lab.startWriting(WRITERS);
    await untilPublishing(lab);
    assert.equal(await lab.relay.stop(), 0);
    await untilStreaming(standby);
    await writing.stop();
    await lab.assertExactlyOnce();
    assert.equal(await standby.stop(), 0);
  });

  test('gets no slot from a relay that is still starting, however long that takes', async (t) => {
    const lab = await RelayLab.open(stack, { RELAY_STATUS_INTERVAL_MS: '100' });
    t.after(() => lab.close());
    await lab.stream();
    await lab.relay.stop();
    const holder = await lab.connect();
    t.after(() => holder.end());
    await holder.query('begin');
    await holder.query('lock table ferry.relay_dead_letter'); // the start looks there while it holds the slot
    lab.relay.start();
    const { rows } = await waitUntil('the start waiting', async () => {
      const waiting = await lab.sql<{ now: Date }>(
        `select now() from pg_stat_activity
          where datname = current_database() and application_name like 'ferry relay %' and wait_event_type = 'Lock'`,
      );
      return waiting.rows.length > 0 && waiting;
    });
    await waitUntil('the server hearing of the relay', async () => {
      const heard = await lab.sql(
        `select from pg_stat_replication join pg_replication_slots on active_pid = pid
          where slot_name = $1 and reply_time > $2`,
        [relayNames(lab.config).slot, rows[0]?.now],
      );
      return heard.rowCount === 1;
    });
    await holder.query('rollback');
    await untilStreaming(lab.relay);
    await lab.insert([{ aggregateId: 'after', tombstone: true }]);
    await lab.assertExactlyOnce();
  });

  test('is not needed for a clean stop: what is published is confirmed, and the slot is free', async (t) => {
    const lab = await RelayLab.open(stack);
    t.after(() => lab.close());
    await lab.stream();
    await lab.write({ rows: 500, largestTransaction: 200 });
    await lab.assertExactlyOnce();
    assert.equal(await lab.relay.stop(), 0);
    const { rows } = await lab.sql<{ active: boolean; confirmed: string }>(
      'select active, confirmed_flush_lsn::text as confirmed from pg_replication_slots where slot_name = $1',
      [relayNames(lab.config).slot],
    );
    const checkpoint = (await lab.checkpoints()).at(-1);
    assert.ok(checkpoint !== undefined);
    assert.deepEqual(rows, [{ active: false, confirmed: formatLsn(checkpoint.endLsn) }]);
  });

  test('is not needed for a clean stop at the very moment when the relay begins to stream', async (t) => {
    const lab = await RelayLab.open(stack);
    t.after(() => lab.close());
    for (let round = 0; round < 3; round++) {
      await lab.stream();
      assert.equal(await lab.relay.stop(), 0);
    }
  });
});

/** One relay streams, one stands by. */
async function pairedLab(t: TestContext): Promise<{ lab: RelayLab; standby: FerryProcess }> {
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '100' });
  t.after(() => lab.close());
  await lab.stream();
  const standby = lab.newRelay();
  standby.start();
  await untilStandingBy(standby);
  return { lab, standby };
}

/** Since it last streamed, if it ever did. */
async function untilStandingBy(relay: FerryProcess): Promise<void> {
  await waitUntil(
    'standing by',
    () => {
      const last = relay.lines.findLast(({ msg, to }) => msg === 'streaming' || to === 'standby');
      return last?.to === 'standby';
    },
    { deadlineMs: TAKEOVER_DEADLINE_MS },
  );
}

async function untilPublishing(lab: RelayLab): Promise<void> {
  await waitUntil('records in Kafka', async () => (await lab.records(lab.topic('order'))).length > 0);
}
