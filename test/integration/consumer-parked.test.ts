/**
 * Keys whose order is kept, on the real parts: an event that cannot be applied parks its key, the later ones follow it, and an operator lets
 * them go on, in order and each once, whatever happens meanwhile.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { DeadLetters } from '../../src/inbox/dead-letters.ts';
import { NonRetryableError } from '../../src/inbox/failure.ts';
import type { HandleEvent } from '../../src/inbox/handler.ts';
import { Horizon } from '../../src/inbox/horizon.ts';
import { queuedRecord } from '../../src/inbox/key-scheduler.ts';
import { PoisonDesk } from '../../src/inbox/poison.ts';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
import { TopicWriter } from '../../src/kafka/topic-writer.ts';
import { noFailPoints } from '../../src/kernel/fail-point.ts';
import { ConsumerLab, type Counted, type LabRecord } from '../support/consumer-lab.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { Signal, waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const DAY_MS = 86_400_000;

/** Events n = 1, 2, 3, … of a key. */
const eventsOf = (key: string, count: number, from = 1): LabRecord[] =>
  Array.from({ length: count }, (_, i) => ({ key, n: from + i }));

/** A handler that refuses some numbers of the key `k` for good; mend it by taking them out of the set. */
function refusing(lab: ConsumerLab, broken: ReadonlySet<number>): HandleEvent<Counted> {
  return async (event, tx, { attempt }) => {
    await lab.effect(event, tx, attempt); // rolled back with the rest when it throws
    if (event.aggregateId === 'k' && broken.has(event.value.n)) throw new NonRetryableError(`no ${event.value.n}`);
  };
}

const numbersOf = (letters: readonly LogRecord[], ids: readonly string[]) =>
  letters.map(({ headers }) => ids.indexOf(headers.ce_id ?? '') + 1);

describe('a parked key', { concurrency: 6 }, () => {
  /** Six events of k, the third of which is refused, among events of other keys; all dealt with. */
  async function parkedLab(broken: ReadonlySet<number> = new Set([3])) {
    const lab = await ConsumerLab.open(stack);
    const member = lab.start({ handle: refusing(lab, broken) });
    const others = Array.from({ length: 40 }, (_, i) => ({ key: `o${i % 8}`, n: i + 1 }));
    const ids = await lab.send([...eventsOf('k', 6), ...others]);
    await lab.untilEffects(42);
    await waitUntil('all of k being parked', async () => (await lab.parked())[0]?.events === 4);
    await lab.untilDone();
    return { lab, member, ids };
  }

  test('lets its later events follow in order, while other keys flow on', async () => {
    const { lab, ids } = await parkedLab();
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
    const letters = await lab.deadLetters();
    assert.deepEqual(numbersOf(letters, ids), [3, 4, 5, 6]);
    const told = letters.map(({ headers }) => [headers.error_code, headers.blocked_by, headers.replayable]);
    assert.deepEqual(told[0], ['UNEXPECTED', undefined, 'false']);
    for (const follower of told.slice(1)) assert.deepEqual(follower, ['KEY_PARKED', ids[2], 'true']);
    const [parked] = await lab.parked();
    assert.deepEqual(parked, { key: 'k', events: 4, event_id: ids[2], error_code: 'UNEXPECTED', asked: false });
    await lab.send([...eventsOf('k', 2, 7), { key: 'o1', n: 99 }]);
    await lab.untilDeadLetters(6);
    await lab.untilEffects(43);
  });

  test('is released once mended: all in order, each once, and then what is new', async () => {
    const broken = new Set([3]);
    const { lab, ids } = await parkedLab(broken);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    await lab.send(eventsOf('k', 3, 7));
    await lab.untilEffects(42 + 4 + 3);
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.deepEqual(await lab.parked(), []);
    assert.deepEqual(numbersOf(await lab.deadLetters(), ids), [3, 4, 5, 6]);
    assert.deepEqual(new Set((await lab.inbox()).values()), new Set(['applied']));
  });

  test('is parked again behind the next event that fails, with what still waits', async () => {
    const broken = new Set([3, 5]);
    const { lab, ids } = await parkedLab(broken);
    broken.delete(3);
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3, 4]);
    assert.deepEqual(await lab.parked(), [
      { key: 'k', events: 2, event_id: ids[4], error_code: 'UNEXPECTED', asked: false },
    ]);
    await lab.send(eventsOf('k', 1, 7));
    await waitUntil('the new event to follow', async () => (await lab.parked())[0]?.events === 3);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3, 4, 5, 6, 7]);
    assert.deepEqual(await lab.parked(), []);
  });

  test('goes on without the event that is discarded', async () => {
    const { lab, ids } = await parkedLab();
    await lab.release('k', { discard: true });
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 4, 5, 6]);
    assert.deepEqual(await lab.parked(), []);
    assert.equal((await lab.inbox()).get(ids[2] ?? ''), 'discarded');
  });

  test('whose letters are gone from their topic stays parked until the first of them is discarded', async () => {
    const broken = new Set([3]);
    const { lab, ids } = await parkedLab(broken);
    const [, second] = await lab.deadLetters();
    assert.ok(second !== undefined);
    await lab.deleteRecords(second.partition, second.offset, second.topic);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.parked(), [
      { key: 'k', events: 4, event_id: ids[2], error_code: 'NOT_FOUND', asked: false },
    ]);
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
    await lab.release('k', { discard: true });
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 4, 5, 6]);
    assert.deepEqual(await lab.parked(), []);
  });

  test('of which later letters are gone from their topic is released, and the log says how many are missing', async () => {
    const broken = new Set([3]);
    const { lab, member } = await parkedLab(broken);
    const [first] = await lab.deadLetters();
    assert.ok(first !== undefined);
    await member.stop();
    await lab.deleteTopic(first.topic);
    const writer = new TopicWriter(lab.kafka, first.topic, { partitions: 2, replicationFactor: 1 });
    await writer.append([first]);
    await writer.close();
    broken.clear();
    const errors: Array<Record<string, unknown>> = [];
    const logger = pino({ level: 'error' }, { write: (line) => errors.push(JSON.parse(line)) });
    lab.start({ handle: refusing(lab, broken), logger });
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual([await lab.effectsOf('k'), await lab.parked()], [[1, 2, 3], []]);
    const isTold = () => errors.find(({ missing }) => missing !== undefined);
    const { released, missing } = await waitUntil('the log saying so', isTold);
    assert.deepEqual([released, missing], [1, '3']);
  });

  test('is released by the next member when one is stopped in the middle', async () => {
    const broken = new Set([3]);
    const lab = await ConsumerLab.open(stack);
    const inFourth = new Signal();
    const first = lab.start({
      handle: async (event, tx, context) => {
        await refusing(lab, broken)(event, tx, context);
        if (event.value.n !== 4) return;
        inFourth.fire();
        await new Promise(() => {}); // until the stop takes its transaction away
      },
      settings: { stopTimeoutMs: 100 },
    });
    await lab.send(eventsOf('k', 6));
    await waitUntil('all of k being parked', async () => (await lab.parked())[0]?.events === 4);
    broken.clear();
    await lab.release('k');
    await inFourth.wait('the release to reach the fourth event');
    await lab.send(eventsOf('k', 2, 7)); // wait behind those being released
    await first.stop();
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3]);
    assert.equal((await lab.parked())[0]?.asked, true);
    lab.start();
    await lab.untilEffects(8);
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3, 4, 5, 6, 7, 8]);
    await lab.untilReleased('k');
    assert.deepEqual(await lab.parked(), []);
  });

  test('behind a record that nobody can read is freed by discarding that one', async () => {
    const lab = await ConsumerLab.open(stack);
    lab.start();
    const unreadable = { key: 'k', n: 2, value: Buffer.from('no wire format') };
    const ids = await lab.send([{ key: 'k', n: 1 }, unreadable, { key: 'k', n: 3 }]);
    await waitUntil('k being parked', async () => (await lab.parked())[0]?.events === 2);
    assert.equal((await lab.parked())[0]?.error_code, 'PAYLOAD_NOT_WIRE_FORMAT');
    await lab.release('k'); // nothing is mended
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1]);
    assert.equal((await lab.parked())[0]?.event_id, ids[1]);
    await lab.release('k', { discard: true });
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 3]);
    assert.deepEqual(await lab.parked(), []);
  });

  test('keeps the order when an unreadable record stands behind an event that is still being tried', async () => {
    const lab = await ConsumerLab.open(stack);
    const member = lab.start({
      handle: async (event, tx, { attempt }) => {
        await lab.effect(event, tx, attempt);
        if (event.value.n === 1 && attempt < 3) throw new Error('not yet');
      },
    });
    member.pause();
    const unreadable = { key: 'k', n: 2, value: Buffer.from('no wire format') };
    const ids = await lab.send([{ key: 'k', n: 1 }, unreadable, { key: 'k', n: 3 }]);
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await waitUntil('k being parked', async () => (await lab.parked())[0]?.events === 2);
    assert.deepEqual(await lab.effectsOf('k'), [1]);
    assert.deepEqual(numbersOf(await lab.deadLetters(), ids), [2, 3]);
  });

  test('keeps the order when an unreadable record stands behind one that fails for good', async () => {
    const lab = await ConsumerLab.open(stack);
    const broken = new Set([1]);
    const member = lab.start({ handle: refusing(lab, broken) });
    member.pause();
    const unreadable = { key: 'k', n: 2, value: Buffer.from('no wire format') };
    const ids = await lab.send([{ key: 'k', n: 1 }, unreadable, { key: 'k', n: 3 }]);
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await waitUntil('k being parked', async () => (await lab.parked())[0]?.events === 3);
    assert.deepEqual(numbersOf(await lab.deadLetters(), ids), [1, 2, 3]);
    assert.equal((await lab.parked())[0]?.event_id, ids[0]);
  });

  test('takes along more than Kafka takes in one request', async () => {
    const lab = await ConsumerLab.open(stack);
    const broken = new Set([1]);
    const member = lab.start({ handle: refusing(lab, broken) });
    member.pause();
    const note = 'x'.repeat(60_000);
    for (let from = 1; from <= 40; from += 10) {
      await lab.send(eventsOf('k', 10, from).map((event) => ({ ...event, note })));
    }
    member.resume();
    await waitUntil('all being parked', async () => (await lab.parked())[0]?.events === 40);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(
      await lab.effectsOf('k'),
      eventsOf('k', 40).map(({ n }) => n),
    );
  });

  test('that is released at the moment when further events of it are to follow is not parked by them', async () => {
    const lab = await ConsumerLab.open(stack);
    const [id = ''] = await lab.send([{ key: 'k', n: 1 }]);
    const [late] = await lab.records();
    assert.ok(late !== undefined);
    const letters = { kafka: lab.kafka, group: lab.group, topics: { partitions: 1, replicationFactor: 1 } };
    const deadLetters = new DeadLetters({
      ...letters,
      retry: { maxTries: 1, baseMs: 1, maxMs: 1 },
      maxRecordBytes: 1_000_000,
    });
    const desk = new PoisonDesk({
      ...{ pool: lab.pool, group: lab.group, policy: 'park', deadLetters, metrics: quiet.metrics },
      decoder: { personalTexts: () => Promise.reject(new Error('the text of a follower is Ferry’s own')) },
      horizon: new Horizon(lab.pool),
      failPoint: noFailPoints,
    });
    try {
      assert.equal(await desk.follow([queuedRecord(late, 1)], '019b7c5e-8c00-7000-8000-000000000001'), false);
    } finally {
      await deadLetters.close();
    }
    assert.deepEqual([(await lab.inbox()).size, await lab.parked()], [0, []]);
    lab.start();
    await lab.untilDone();
    assert.deepEqual([...(await lab.inbox())], [[id, 'applied']]);
  });

  test('cannot be longer than an index takes: such a key is dead-lettered event by event', async () => {
    const lab = await ConsumerLab.open(stack);
    lab.start({
      handle: async (event, tx) => {
        if (event.value.n === 1) throw new NonRetryableError('no');
        await lab.effect(event, tx);
      },
    });
    const key = Array.from({ length: 120 }, () => randomUUID()).join('');
    const ids = await lab.send([
      { key, n: 1 },
      { key, n: 2 },
    ]);
    await lab.untilDone();
    assert.deepEqual(await lab.effectsOf(key), [2]);
    assert.deepEqual([(await lab.inbox()).get(ids[0] ?? ''), await lab.parked()], ['dead-lettered', []]);
  });

  test('is not released past events that the inbox has forgotten: those are dead letters of their own', async () => {
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    const broken = new Set([1]);
    lab.start({ handle: refusing(lab, broken) });
    const recordedAt = new Date(Date.now() - 10 * DAY_MS).toISOString();
    const [old] = await lab.send([
      { key: 'k', n: 1, recordedAt },
      { key: 'k', n: 2 },
    ]);
    await waitUntil('both being parked', async () => (await lab.parked())[0]?.events === 2);
    await lab.pool.query('select ferry.drop_inbox_partitions(5)');
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    await lab.untilEffects(1);
    assert.deepEqual(await lab.effectsOf('k'), [2]);
    const letters = await lab.untilDeadLetters(3);
    assert.deepEqual([letters[2]?.headers.ce_id, letters[2]?.headers.error_code], [old, 'TOO_OLD_TO_DEDUPE']);
    assert.deepEqual(await lab.parked(), []);
  });
});

test('with policy dead-letter the later events of a key go on without the one that fails', async () => {
  const lab = await ConsumerLab.open(stack);
  lab.start({ handle: refusing(lab, new Set([2])), settings: { onPoison: 'dead-letter' } });
  const ids = await lab.send([...eventsOf('k', 4)]);
  await lab.untilEffects(3);
  await lab.untilDone();
  assert.deepEqual(await lab.effectsOf('k'), [1, 3, 4]);
  assert.deepEqual(numbersOf(await lab.deadLetters(), ids), [2]);
  assert.deepEqual(await lab.parked(), []);
  assert.equal((await lab.inbox()).get(ids[1] ?? ''), 'dead-lettered');
});
