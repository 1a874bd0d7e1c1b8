/**
 * Keys that the relay parks on real parts: their order is kept until they are released, whatever is restarted, mended, edited or given up
 * meanwhile. How it survives kills is in test/chaos/relay-parked.test.ts.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import { encodeRelease } from '../../src/events/release-message.ts';
import type { ErrorCode } from '../../src/kernel/errors.ts';
import { listParkedKeys } from '../../src/ops/parked-keys.ts';
import { emitControls } from '../../src/outbox/control-writer.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { relayNames } from '../../src/relay/names.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { type NewEvent, RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(11);
const BAD = { ...orderPlaced(random), total: 'not a decimal' };
const ANY_KEY = 'k\u0001 "\\é\u{1F9CA}';

async function openLab(t: TestContext, environment: Record<string, string> = {}): Promise<RelayLab> {
  const lab = await RelayLab.open(stack, environment);
  t.after(() => lab.close());
  return lab;
}

const good = (aggregateId: string, version: number): NewEvent => {
  return { aggregateId, version, payload: orderPlaced(random) };
};
const bad = (aggregateId: string, version: number, type = 'commerce.OrderPlaced'): NewEvent => {
  return { aggregateId, version, type, payload: BAD };
};

/** What an operator does of an event: another payload, the row as it was. */
function patch(lab: RelayLab, id: string | undefined) {
  return lab.sql(`insert into ferry.event_patch (event_id, payload, by, reason) values ($1, $2, 'test', 'mended')`, [
    id,
    JSON.stringify(orderPlaced(random)),
  ]);
}

/** What the settlement of dead letters asks for, one message an event. */
async function askToPublish(lab: RelayLab, key: string, events: ReadonlyArray<string | undefined>): Promise<void> {
  const pool = createPool(lab.config, 'test', { max: 1 });
  const bodies = events.map((event = '') =>
    encodeRelease({ id: randomUUID(), topic: lab.topic('order'), key, by: 'test', skip: [], event }),
  );
  await transaction(pool, (tx) => emitControls(tx, lab.config.RELAY_NAME, 'release', bodies)).finally(() => pool.end());
}

async function idsOf(lab: RelayLab, key: string, topic = lab.topic('order')): Promise<(string | undefined)[]> {
  const records = (await lab.records(topic)).filter((record) => record.key?.toString() === key);
  return records.map(({ headers }) => headers.ce_id);
}

async function parkedKeys(lab: RelayLab): Promise<string[]> {
  const pool = createPool(lab.config, 'test', { max: 1 });
  const keys = await listParkedKeys(pool, { group: null, relay: lab.config.RELAY_NAME }).finally(() => pool.end());
  return keys.map(({ key, events, eventId, errorCode }) => `${key}: ${events} behind ${eventId} ${errorCode}`);
}

const untilNoneParked = (lab: RelayLab) =>
  waitUntil('nothing being parked', async () => (await parkedKeys(lab)).length === 0);

describe('a parked key', { concurrency: 2 }, () => {
  test('waits over restarts, and is released in order, with what came meanwhile; newer events follow', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const [first, poison, third] = await lab.insert([good(ANY_KEY, 1), bad(ANY_KEY, 2), good(ANY_KEY, 3)]);
    await lab.insert([good('other', 1)]);
    lab.deadLetters = 2;
    await lab.assertExactlyOnce();
    await lab.relay.kill();
    await lab.stream();
    const [fourth] = await lab.insert([good(ANY_KEY, 4), good('other', 2)]);
    lab.deadLetters = 3;
    await lab.assertExactlyOnce();
    assert.deepEqual(await parkedKeys(lab), [`${ANY_KEY}: 3 behind ${poison} SCHEMA_MISMATCH`]);

    await patch(lab, poison);
    await lab.release(ANY_KEY);
    await untilNoneParked(lab);
    const [fifth] = await lab.insert([good(ANY_KEY, 5)]);
    lab.deadLetters = 0;
    assert.equal((await lab.assertExactlyOnce()).released, 3);
    assert.deepEqual(await idsOf(lab, ANY_KEY), [first, poison, third, fourth, fifth]);
    assert.deepEqual(await idsOf(lab, ANY_KEY, lab.deadLetterTopic('order')), [poison, third, fourth]);
    for (const id of [poison, third, fourth]) assert.equal(await lab.statusOf(id), 'published');

    await lab.release(ANY_KEY).catch((error: { code?: ErrorCode }) => assert.equal(error.code, 'NOT_FOUND'));
    await lab.relay.kill();
    await lab.stream();
    await lab.insert([good(ANY_KEY, 6)]);
    await lab.assertExactlyOnce();
  });

  test('stays parked behind the event that still cannot be published, and goes on without it when it is given up', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const [one, two, three, four] = await lab.insert([bad('k', 1), good('k', 2), bad('k', 3), good('k', 4)]);
    lab.deadLetters = 4;
    await lab.assertExactlyOnce();
    await patch(lab, one);
    await lab.release('k');
    await lab.release('k'); // twice in a row: the second finds what the first has left
    const behind = [`k: 2 behind ${three} SCHEMA_MISMATCH`];
    await waitUntil(
      'the key being parked behind the next',
      async () => String(await parkedKeys(lab)) === String(behind),
    );
    assert.deepEqual(await idsOf(lab, 'k'), [one, two]);
    const letters = (await lab.records(lab.deadLetterTopic('order'))).filter(({ headers }) => headers.ce_id === three);
    assert.deepEqual(
      letters.map(({ headers }) => headers.error_code),
      ['KEY_PARKED', 'SCHEMA_MISMATCH', 'SCHEMA_MISMATCH'],
    );

    await lab.release('k', { discard: true });
    await untilNoneParked(lab);
    await lab.insert([good('k', 5)]);
    lab.deadLetters = 1;
    await lab.assertExactlyOnce();
    assert.deepEqual([await lab.statusOf(three), await lab.statusOf(four)], ['dead-lettered', 'published']);
  });

  test('of a type whose tier says dead-letter holds nobody up, and its event can be published alone, once', async (t) => {
    const lab = await openLab(t, { EVENT_TIERS: 'commerce.OrderPlaced=best-effort' });
    await lab.stream();
    const [one, two] = await lab.insert([bad('k', 1), good('k', 2)]);
    lab.deadLetters = 1;
    await lab.assertExactlyOnce();
    assert.deepEqual(await idsOf(lab, 'k'), [two]);
    await patch(lab, one);
    await askToPublish(lab, 'k', [one, one, two, one]);
    await waitUntil('it being published', async () => (await lab.statusOf(one)) === 'published');
    lab.deadLetters = 0;
    await lab.assertExactlyOnce();
    assert.deepEqual(await idsOf(lab, 'k'), [two, one]);
  });

  test('alone is published once when the relay froze while it claimed it, and the next one did its work', async (t) => {
    const lab = await openLab(t, { EVENT_TIERS: 'commerce.OrderPlaced=best-effort' });
    await lab.stream();
    const [one] = await lab.insert([bad('k', 1)]);
    lab.deadLetters = 1;
    await lab.assertExactlyOnce();
    await patch(lab, one);
    const waiting = async (count: number) => {
      const { rows } = await lab.sql<{ count: bigint }>(
        `select count(*) as count from pg_stat_activity
          where datname = current_database() and application_name like 'ferry relay %' and wait_event_type = 'Lock'`,
      );
      return Number(rows[0]?.count) === count;
    };
    const standby = lab.newRelay();
    const pool = createPool(lab.config, 'test', { max: 1 });
    t.after(() => pool.end());
    await transaction(pool, async (tx) => {
      await tx.query('select from ferry.relay_dead_letter for update');
      await askToPublish(lab, 'k', [one]);
      await waitUntil('the relay claiming it', () => waiting(1));
      lab.relay.freeze();
      standby.start();
      await waitUntil('the next relay waiting for the first', () => waiting(2), { deadlineMs: 60_000 });
    });
    lab.deadLetters = 0;
    await waitUntil('it being published', async () => (await lab.statusOf(one)) === 'published');
    lab.relay.thaw();
    await lab.assertExactlyOnce();
    assert.deepEqual(await idsOf(lab, 'k'), [one]);
  });

  test('keeps waiting when a new epoch begins; what the epoch publishes goes behind it', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const [one] = await lab.insert([bad('k', 1), good('k', 2)]);
    lab.deadLetters = 2;
    await lab.assertExactlyOnce();
    await lab.relay.stop();
    await lab.beginSecondEpoch();
    await lab.insert([good('k', 3), good('other', 1)]); // only the backfill can publish these
    await lab.stream();
    lab.deadLetters = 3;
    await lab.assertExactlyOnce();
    assert.deepEqual(await parkedKeys(lab), [`k: 3 behind ${one} SCHEMA_MISMATCH`]);
    await patch(lab, one);
    await lab.release('k');
    await untilNoneParked(lab);
    lab.deadLetters = 0;
    await lab.assertExactlyOnce();
  });

  test('goes on as single dead letters when a new epoch begins without the list of what waits', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const ids = await lab.insert([bad('k', 1), good('k', 2)]);
    lab.deadLetters = 2;
    await lab.assertExactlyOnce();
    await lab.relay.stop();
    await lab.deleteTopic(relayNames(lab.config).parkedTopic);
    await lab.beginSecondEpoch();
    await lab.stream();
    await lab.insert([good('k', 3)]);
    await lab.assertExactlyOnce();
    const told = await Promise.all(ids.map((id) => lab.statusOf(id)));
    assert.deepEqual(told, ['dead-lettered', 'dead-lettered'], 'nothing of them was published');
    assert.deepEqual(await parkedKeys(lab), []);
  });

  test('may hold so many events: with more, or where a tier says halt, the relay refuses, and goes on once that is changed', async (t) => {
    const lab = await openLab(t);
    const refusedWith = async (code: ErrorCode, environment: Record<string, string>) => {
      lab.relay.start(environment);
      await lab.relay.waitForLog(code, ({ err }) => (err as { code?: string } | undefined)?.code === code);
      await lab.relay.exited();
    };
    const [one] = await lab.insert([bad('k', 1), good('k', 2), good('k', 3)]);
    await refusedWith('RELAY_POISON_HALT', { TIERS: 'standard.poison=halt' });
    await refusedWith('RELAY_PARKED_FULL', { RELAY_PARKED_MAX_EVENTS_PER_KEY: '2' });
    await refusedWith('RELAY_PARKED_FULL', { RELAY_PARKED_MAX_EVENTS: '2' });
    await lab.stream();
    lab.deadLetters = 3;
    await lab.assertExactlyOnce();
    await patch(lab, one);
    await lab.release('k');
    await untilNoneParked(lab);
    lab.deadLetters = 0;
    await lab.assertExactlyOnce();
  });

  test('is published from the dead-letter topic when the outbox has lost its rows', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const large = { ...orderPlaced(random), customerId: 'c'.repeat(1_000_000), total: 'bad' };
    await lab.insert([{ aggregateId: 'large', version: 1, payload: large }, good('large', 2)]);
    const [poison, second] = await lab.insert([
      { aggregateId: 'k', type: 'commerce.Unheard', payload: {} },
      good('k', 2),
    ]);
    lab.deadLetters = 4;
    await lab.assertExactlyOnce();
    await lab.sql(
      `set session_replication_role = replica; delete from ferry.outbox where aggregateid in ('k', 'large')`,
    );
    await lab.release('k', { discard: true });
    await waitUntil('the rest being published', async () => (await idsOf(lab, 'k')).length === 1);
    assert.deepEqual(await idsOf(lab, 'k'), [second]);
    assert.deepEqual(await idsOf(lab, 'k', lab.deadLetterTopic('order')), [poison, second]);
    await lab.release('large'); // only a reference to its row is in the dead letter
    await waitUntil('it being told', async () => /EVENT_BODY_MISSING/.test(String(await parkedKeys(lab))));
  });
});
