/**
 * Events that cannot be applied, on the real parts: how often they are tried, what stands in their dead letters, what becomes of the later
 * events of their key, and how an operator lets them go on.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { DeadLetters } from '../../src/inbox/dead-letters.ts';
import { NonRetryableError } from '../../src/inbox/failure.ts';
import type { HandleEvent } from '../../src/inbox/handler.ts';
import { Horizon } from '../../src/inbox/horizon.ts';
import { queuedRecord } from '../../src/inbox/key-scheduler.ts';
import { PoisonDesk } from '../../src/inbox/poison.ts';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
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

describe('a record that fails', { concurrency: 4 }, () => {
  test('for good is dead-lettered at once, whole, with what went wrong in its headers', async () => {
    const lab = await ConsumerLab.open(stack);
    const tries: number[] = [];
    lab.start({
      handle: async (_event, _tx, { attempt }) => {
        tries.push(attempt);
        throw Object.assign(new NonRetryableError('no such product'), { code: 'PRODUCT_UNKNOWN' });
      },
    });
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const [id] = await lab.send([{ key: 'k', n: 7, headers: { traceparent, 'x-own': 'é' }, partition: 1 }]);
    const [letter] = await lab.untilDeadLetters(1);
    const [original] = await lab.records();
    assert.ok(letter !== undefined && original !== undefined);
    assert.deepEqual([letter.key, letter.value], [original.key, original.value]);
    const { error_stack, first_failed_at, failed_at, ...headers } = letter.headers;
    assert.deepEqual(headers, {
      ...original.headers,
      original_record: 'value',
      error_type: 'NonRetryableError',
      error_code: 'PRODUCT_UNKNOWN',
      error_message: 'no such product',
      retry_count: '0',
      max_retries: '2',
      source_topic: lab.topic,
      source_partition: '1',
      source_offset: '0',
      replayable: 'false',
      consumer_group: lab.group,
    });
    assert.match(error_stack ?? '', /^NonRetryableError: no such product\n {4}at /);
    assert.equal(new Date(first_failed_at ?? '').toISOString(), first_failed_at);
    assert.ok(String(first_failed_at) <= String(failed_at));
    assert.deepEqual(tries, [1]);
    await lab.untilDone();
    assert.deepEqual([...(await lab.inbox())], [[id, 'parked']]);
  });

  test('for now is tried again after pauses that grow, and dead-lettered after the last try', async () => {
    const lab = await ConsumerLab.open(stack);
    const tries: Array<{ attempt: number; atMs: number }> = [];
    lab.start({
      settings: { retry: { maxTries: 4, baseMs: 50, maxMs: 1_000 }, onPoison: 'dead-letter' },
      handle: async (_event, _tx, { attempt }) => {
        tries.push({ attempt, atMs: performance.now() });
        throw Object.assign(new Error('unwell'), { status: 503 });
      },
    });
    const [id] = await lab.send([{ key: 'k', n: 1 }]);
    const [letter] = await lab.untilDeadLetters(1);
    assert.deepEqual(
      tries.map(({ attempt }) => attempt),
      [1, 2, 3, 4],
    );
    const pauses = tries.slice(1).map(({ atMs }, i) => atMs - (tries[i]?.atMs ?? 0));
    for (const [i, pause] of pauses.entries()) assert.ok(pause >= 25 * 2 ** i - 2, `pause ${i + 1}: ${pause} ms`);
    const { error_code, retry_count, max_retries, replayable, first_failed_at, failed_at } = letter?.headers ?? {};
    assert.deepEqual([error_code, retry_count, max_retries, replayable], ['HTTP_503', '3', '3', 'true']);
    assert.ok(Date.parse(failed_at ?? '') - Date.parse(first_failed_at ?? '') >= 100);
    await waitUntil('the inbox to have it', async () => (await lab.inbox()).size === 1);
    assert.deepEqual([...(await lab.inbox())], [[id, 'dead-lettered']]);
  });

  test('twice and then succeeds has its effect once, and the others of its transaction are not tried with it', async () => {
    const lab = await ConsumerLab.open(stack);
    const calls: string[] = [];
    const member = lab.start({
      handle: async (event, tx, { attempt }) => {
        await lab.effect(event, tx, attempt);
        calls.push(`${event.aggregateId}${event.value.n}`);
        if (event.aggregateId === 'k' && attempt < 3) throw new Error('not yet');
      },
    });
    member.pause(); // so that all come in one transaction
    await lab.send([{ key: 'k', n: 1 }, ...eventsOf('a', 3), { key: 'k', n: 2 }]);
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await lab.untilEffects(5);
    await lab.untilDone();
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
    assert.deepEqual(await lab.effectsOf('a'), [1, 2, 3]);
    assert.deepEqual(await lab.deadLetters(), []);
    assert.ok(calls.filter((call) => call === 'a1').length <= 2, calls.join(' '));
  });

  test('does not keep later events of its key with policy dead-letter', async () => {
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

  test('without a key, or without an id, holds up nobody', async () => {
    const lab = await ConsumerLab.open(stack);
    lab.start({
      handle: async (event, tx) => {
        if (event.aggregateId === null && event.value.n === 2) throw new NonRetryableError('no');
        await lab.effect(event, tx);
      },
    });
    const ids = await lab.send([
      { key: null, n: 1 },
      { key: null, n: 2 },
      { key: null, n: 3 },
      { key: 'k', n: 1, headers: { ce_id: null } },
      { key: 'k', n: 2, id: 'no uuid' },
      { key: 'k', n: 3 },
    ]);
    await lab.untilEffects(3);
    await lab.untilDone();
    assert.deepEqual((await lab.effects()).sort(), ['-1', '-3', 'k3']);
    const codes = (await lab.deadLetters()).map(({ headers }) => headers.error_code).sort();
    assert.deepEqual(codes, ['EVENT_ID_INVALID', 'EVENT_ID_INVALID', 'UNEXPECTED']);
    assert.deepEqual(await lab.parked(), []);
    assert.equal((await lab.inbox()).get(ids[1] ?? ''), 'dead-lettered');
  });
});

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
    const deadLetters = new DeadLetters({ ...letters, maxTries: 1, maxRecordBytes: 1_000_000 });
    const desk = new PoisonDesk({
      ...{ pool: lab.pool, group: lab.group, policy: 'park', deadLetters, metrics: quiet.metrics },
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

describe('a record that is too large for a dead letter', { concurrency: 2 }, () => {
  const big = { key: 'k', n: 1, note: 'x'.repeat(995_000), headers: { 'x-own': 'kept in the topic' } };

  async function parkedBig() {
    const lab = await ConsumerLab.open(stack);
    const broken = new Set([1]);
    const seen: Array<[length: number | undefined, header: string | undefined]> = [];
    lab.start({
      handle: async (event, tx, context) => {
        seen.push([event.value.note?.length, event.headers['x-own']]);
        await refusing(lab, broken)(event, tx, context);
      },
    });
    const recordedAt = new Date(Date.now() - 2 * DAY_MS).toISOString(); // another day than its id's
    const [id] = await lab.send([{ ...big, recordedAt }]);
    await lab.send([{ key: 'k', n: 2 }]);
    await waitUntil('both being parked', async () => (await lab.parked())[0]?.events === 2);
    return { lab, broken, seen, id };
  }

  test('is referred to, and its release reads it from its topic', async () => {
    const { lab, broken, seen, id } = await parkedBig();
    const [letter] = await lab.deadLetters();
    const [original] = await lab.records();
    assert.equal(letter?.value, null);
    assert.equal(letter?.headers.ce_id, id);
    assert.equal(letter?.headers.original_record, `${lab.topic}/${original?.partition}/0`);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
    assert.deepEqual(seen.slice(0, 2), [
      [995_000, 'kept in the topic'],
      [995_000, 'kept in the topic'],
    ]);
  });

  test('keeps its key parked once it is gone from there, until it is discarded', async () => {
    const { lab, broken, id } = await parkedBig();
    const [original] = await lab.records();
    await lab.deleteRecords(original?.partition ?? 0, 1n);
    broken.clear();
    await lab.release('k');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.parked(), [
      { key: 'k', events: 2, event_id: id, error_code: 'NOT_FOUND', asked: false },
    ]);
    await lab.release('k', { discard: true });
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [2]);
    assert.equal((await lab.inbox()).get(id ?? ''), 'discarded');
  });
});
