/**
 * Events that cannot be applied, on the real parts: how often they are tried, and what stands in their dead letters. What becomes of their
 * keys is in consumer-parked.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NonRetryableError } from '../../src/inbox/failure.ts';
import { ConsumerLab } from '../support/consumer-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const DAY_MS = 86_400_000;

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
    await lab.send([{ key: 'k', n: 1 }, ...[1, 2, 3].map((n) => ({ key: 'a', n })), { key: 'k', n: 2 }]);
    await waitUntil('the records', () => member.committable().length > 0);
    member.resume();
    await lab.untilEffects(5);
    await lab.untilDone();
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
    assert.deepEqual(await lab.effectsOf('a'), [1, 2, 3]);
    assert.deepEqual(await lab.deadLetters(), []);
    assert.ok(calls.filter((call) => call === 'a1').length <= 2, calls.join(' '));
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

  test('with a time that Postgres cannot read is known by the time of its id, and holds up nobody', async () => {
    const lab = await ConsumerLab.open(stack);
    lab.start();
    const now = new Date().toISOString();
    const ids = await lab.send([
      { key: 'a', n: 1 },
      { key: 'a', n: 2, recordedAt: now.replace('Z', `${'1'.repeat(140)}Z`) },
      { key: 'a', n: 3, recordedAt: '0000-01-02T03:04:05Z' },
      { key: 'a', n: 4 },
    ]);
    await lab.untilEffects(4);
    assert.deepEqual(await lab.effectsOf('a'), [1, 2, 3, 4]);
    assert.deepEqual(new Set((await lab.inbox()).keys()), new Set(ids));
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
        if (broken.has(event.value.n)) throw new NonRetryableError('no');
        await lab.effect(event, tx, context.attempt);
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
