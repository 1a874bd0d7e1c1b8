/**
 * The dead-letter store on the real parts: what a group sets aside is read into it, goes back to that group alone when an operator says so, and
 * is resolved when the group's inbox has it.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { EventTiers } from '../../src/config/tiers.ts';
import { DeadLetterProjection, type ProjectionOptions } from '../../src/deadletter/projection.ts';
import { Settlement, type SettlementOptions } from '../../src/deadletter/settlement.ts';
import { NonRetryableError } from '../../src/inbox/failure.ts';
import type { HandleEvent } from '../../src/inbox/handler.ts';
import { noFailPoints } from '../../src/kernel/fail-point.ts';
import { discardLetter, retryLetter } from '../../src/ops/dead-letter-actions.ts';
import { type DeadLetterContents, findDeadLetter, listDeadLetters } from '../../src/ops/dead-letters.ts';
import { createPool, type Pool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { ConsumerLab, type Counted, type LabRecord } from '../support/consumer-lab.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const operator = { principal: 'test', requestId: null };
const EVERYTHING = {
  ...{
    type: null,
    code: null,
    topic: null,
    key: null,
    group: null,
    state: null,
    failedAfter: null,
    failedBefore: null,
  },
  ...{ before: null, limit: 1_000 },
};

function projection(lab: ConsumerLab, changes: Partial<ProjectionOptions> = {}): DeadLetterProjection {
  const made = new DeadLetterProjection({
    ...{ ...quiet, kafka: lab.kafka, pool: lab.pool, failPoint: noFailPoints, furtherTopics: [] },
    decoder: createDecoder({ store: new SchemaStore(createRegistryClient({ url: stack.registryUrl })) }),
    topicPrefix: stack.topicPrefix,
    ...changes,
  });
  made.start();
  after(() => made.stop());
  return made;
}

function settlement(lab: ConsumerLab, changes: Partial<SettlementOptions> = {}): Settlement {
  const databases = [{ pool: lab.pool, relay: stack.relayName }];
  const tiers = new EventTiers();
  const made = new Settlement({ ...quiet, pool: lab.pool, databases, tiers, failPoint: noFailPoints, ...changes });
  made.start();
  after(() => made.stop());
  return made;
}

const lettersOf = (lab: ConsumerLab) => listDeadLetters(lab.pool, { ...EVERYTHING, group: lab.group });

/** The group's letters, oldest first, as soon as there are that many. */
async function untilLetters(lab: ConsumerLab, count: number): Promise<DeadLetterContents[]> {
  await waitUntil(`${count} letters in the store`, async () => (await lettersOf(lab)).length >= count);
  const letters = await lettersOf(lab);
  return Promise.all(letters.reverse().map(({ id }) => findDeadLetter(lab.pool, id)));
}

async function untilState(lab: ConsumerLab, id: string, state: string): Promise<DeadLetterContents> {
  return waitUntil(`letter ${id} being ${state}`, async () => {
    const letter = await findDeadLetter(lab.pool, id);
    return letter.state === state ? letter : null;
  });
}

const retry = (lab: ConsumerLab, id: string) =>
  transaction(lab.pool, (tx) => retryLetter(tx, operator, { id, reason: 'mended' }));

function refusing(lab: ConsumerLab, broken: ReadonlySet<number>): HandleEvent<Counted> {
  return async (event, tx, { attempt }) => {
    await lab.effect(event, tx, attempt);
    if (broken.has(event.value.n)) throw new NonRetryableError(`no ${event.value.n}`);
  };
}

const eventsOf = (key: string, count: number): LabRecord[] =>
  Array.from({ length: count }, (_, i) => ({ key, n: i + 1 }));

describe('the dead-letter store', { concurrency: 4 }, () => {
  test('holds what a group has set aside: bytes, headers, payload, and why', async () => {
    const lab = await ConsumerLab.open(stack);
    projection(lab); // runs before the group has a dead-letter topic
    lab.start({ handle: refusing(lab, new Set([2])) });
    const [, id, follower] = await lab.send(
      eventsOf('k', 3).map((event) => ({ ...event, headers: { tenant: 'žluť' } })),
    );
    const [letter, behind] = await untilLetters(lab, 2);
    assert.ok(letter !== undefined && behind !== undefined);
    const [, original] = await lab.records();
    assert.ok(original !== undefined);
    assert.deepEqual(
      [letter.eventId, letter.type, letter.sourceTopic, letter.key, letter.code, letter.errorType, letter.errorMessage],
      [id, 'lab.Counted', lab.topic, 'k', 'UNEXPECTED', 'NonRetryableError', 'no 2'],
    );
    assert.deepEqual(letter.headers, original.headers);
    assert.deepEqual(letter.value, original.value);
    assert.deepEqual(JSON.parse(letter.payload ?? ''), { n: 2, note: '' });
    assert.equal(letter.sourcePosition, `${original.partition}/${original.offset}`);
    assert.deepEqual([letter.state, letter.copies, letter.replayable, letter.blockedBy], ['open', 1, false, null]);
    assert.match(letter.errorStack ?? '', /NonRetryableError/);
    assert.deepEqual([behind.eventId, behind.code, behind.blockedBy], [follower, 'KEY_PARKED', id]);
  });

  test('gives a letter back to a group whose inbox is in another database than the store', async () => {
    const store = createPool(stack.config, 'store', { max: 3 });
    after(() => store.end());
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    projection(lab, { pool: store });
    const databases = [
      { pool: store, relay: stack.relayName },
      { pool: lab.pool, relay: 'other' },
    ] as const;
    settlement(lab, { pool: store, databases });
    const broken = new Set([1]);
    lab.start({ handle: refusing(lab, broken), settings: { onPoison: 'dead-letter' } });
    const [eventId] = await lab.send(eventsOf('k', 2));
    const find = async () => (await listDeadLetters(store, { ...EVERYTHING, group: lab.group }))[0];
    const letter = await waitUntil('the letter in the store', find);
    assert.equal(letter.eventId, eventId);
    broken.clear();
    await transaction(store, (tx) => retryLetter(tx, operator, { id: letter.id, reason: 'mended' }));
    await waitUntil('it being resolved', async () => (await find())?.state === 'resolved');
    const requests = (db: Pool) =>
      db.query('select outcome from ferry.inbox_retry where consumer_group = $1', [lab.group]);
    assert.deepEqual((await requests(lab.pool)).rows, [{ outcome: 'applied' }]);
    assert.deepEqual((await requests(store)).rows, []);
    assert.deepEqual(await lab.effectsOf('k'), [2, 1]);
  });

  test('settles the letters of owners that can be told while another is away, however many of its letters wait', async () => {
    const store = createPool({ ...stack.config, DATABASE_URL: await stack.createDatabase() }, 'store', { max: 3 });
    const away = createPool({ ...stack.config, DATABASE_URL: 'postgres://ferry@127.0.0.1:1/ferry' }, 'away');
    after(() => Promise.all([store.end(), away.end()]));
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    await store.query(
      `insert into ferry.dead_letter (id, consumer_group, event_id, recorded_at, source_topic, source_position, headers, original_record, code,
         error_type, error_message, retry_count, max_retries, first_failed_at, failed_at, replayable, topic, partition, record_offset, state, retry_id)
       select ferry.uuidv7(), 'away', ferry.uuidv7(), now(), 't', '0/0', '{}', 'value', 'X', 'E', 'm', 0, 0, now(), now(), true, 'away.dlq', 0, n,
              'replaying', gen_random_uuid()
       from generate_series(1, 250) n`,
    );
    projection(lab, { pool: store, topicPrefix: lab.group });
    const databases = [
      { pool: store, relay: stack.relayName },
      { pool: away, relay: 'away' },
      { pool: lab.pool, relay: 'other' },
    ] as const;
    settlement(lab, { pool: store, databases });
    const broken = new Set([1]);
    lab.start({ handle: refusing(lab, broken), settings: { onPoison: 'dead-letter' } });
    await lab.send(eventsOf('k', 1));
    const find = async () => (await listDeadLetters(store, { ...EVERYTHING, group: lab.group }))[0];
    const letter = await waitUntil('the letter in the store', find);
    broken.clear();
    await transaction(store, (tx) => retryLetter(tx, operator, { id: letter.id, reason: 'mended' }));
    await waitUntil('it being resolved', async () => (await find())?.state === 'resolved');
    const { rows } = await store.query(
      `select state, told_at, count(*)::int as letters from ferry.dead_letter where consumer_group = 'away' group by 1, 2`,
    );
    assert.deepEqual(rows, [{ state: 'replaying', told_at: null, letters: 250 }]);
  });

  test('forgets what the relay was asked, unless a letter may ask it again', async () => {
    const store = createPool({ ...stack.config, DATABASE_URL: await stack.createDatabase() }, 'store', { max: 3 });
    const away = createPool({ ...stack.config, DATABASE_URL: 'postgres://ferry@127.0.0.1:1/ferry' }, 'away');
    after(() => Promise.all([store.end(), away.end()]));
    const lab = await ConsumerLab.open(stack);
    const [untold, old, fresh] = [randomUUID(), randomUUID(), randomUUID()];
    await store.query(
      `insert into ferry.dead_letter (id, event_id, recorded_at, source_topic, source_position, headers, original_record, code, error_type,
         error_message, retry_count, max_retries, first_failed_at, failed_at, replayable, topic, partition, record_offset, state, retry_id)
       values (ferry.uuidv7(), ferry.uuidv7(), now(), 't', '0/0', '{}', 'value', 'X', 'E', 'm', 0, 0, now(), now(), true, 't.dlq', 0, 1,
               'replaying', $1)`,
      [untold],
    );
    await store.query(
      `insert into ferry.relay_ask (id, event_id, asked_at)
       select id, gen_random_uuid(), now() - make_interval(days => days) from unnest($1::uuid[], $2::int[]) as ask (id, days)`,
      [
        [untold, old, fresh],
        [8, 8, 6],
      ],
    );
    const databases = [
      { pool: store, relay: stack.relayName },
      { pool: away, relay: 'away' }, // may be the letter's owner: nobody can be told
    ] as const;
    settlement(lab, { pool: store, databases });
    const asks = async () =>
      (await store.query<{ id: string }>('select id from ferry.relay_ask')).rows.map(({ id }) => id);
    await waitUntil('the old one being forgotten', async () => !(await asks()).includes(old));
    assert.deepEqual(new Set(await asks()), new Set([untold, fresh]));
  });

  test('enters each record once, however many processes read, and wherever they end', async () => {
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    const topic = `${lab.group}.dlq`;
    const headers = { error_code: 'UNEXPECTED', source_topic: lab.topic, consumer_group: lab.group };
    await lab.createTopic(topic, 3);
    let passings = 0;
    const failPoint = () => {
      passings += 1;
      if (passings < 20 && passings % 2 === 1) throw new Error('a process ends here');
    };
    const readers = [projection(lab, { failPoint }), projection(lab, { failPoint })];
    for (let i = 0; i < 8; i++) {
      await lab.send(Array.from({ length: 50 }, (_, n) => ({ key: `k${n}`, n: i * 50 + n + 1, topic, headers })));
    }
    const letters = await untilLetters(lab, 400);
    await Promise.all(readers.map((reader) => reader.stop()));
    assert.equal(letters.length, 400);
    assert.ok(passings > 4);
    assert.deepEqual(new Set(letters.map(({ copies }) => copies)), new Set([1]));
  });

  test('reads a topic that was deleted and made again from its beginning', async () => {
    const lab = await ConsumerLab.open(stack);
    const topic = `${lab.group}.dlq`;
    const envelope = { error_code: 'UNEXPECTED', source_topic: lab.topic, consumer_group: lab.group };
    projection(lab);
    await lab.createTopic(topic);
    await lab.send([
      { key: 'a', n: 1, headers: envelope, topic },
      { key: 'a', n: 2, headers: envelope, topic },
    ]);
    await untilLetters(lab, 2);
    await lab.deleteTopic(topic);
    await lab.createTopic(topic);
    await lab.send([{ key: 'a', n: 3, headers: envelope, topic }]);
    const letters = await untilLetters(lab, 3);
    assert.deepEqual(
      letters.map(({ payload }) => JSON.parse(payload ?? '').n),
      [1, 2, 3],
    );
  });

  test('takes whatever a record holds, and leaves alone what has no envelope', async () => {
    const lab = await ConsumerLab.open(stack);
    const topic = `${lab.group}.dlq`;
    await lab.createTopic(topic);
    projection(lab);
    const envelope = { source_topic: lab.topic, consumer_group: lab.group };
    await lab.send([
      { key: 'a', n: 1, topic, headers: { other: 'producer' } },
      {
        key: null,
        n: 2,
        topic,
        headers: { ...envelope, error_code: 'X\u0000Y', ce_id: 'none', odd: 'a\u0000b', failed_at: 'soon' },
      },
      {
        key: 'b',
        n: 3,
        topic,
        value: Buffer.from([0, 255, 254]),
        headers: { ...envelope, error_code: 'PAYLOAD_NOT_WIRE_FORMAT' },
      },
      { key: 'b', n: 4, topic, value: null, headers: { ...envelope, error_code: 'Z' } },
    ]);
    const letters = await untilLetters(lab, 3);
    const codes = letters.map(({ code, payload, eventId }) => [code, payload !== null, eventId !== null]);
    assert.deepEqual(codes.sort(), [
      ['PAYLOAD_NOT_WIRE_FORMAT', false, true],
      ['X\ufffdY', true, false],
      ['Z', false, true],
    ]);
    const odd = letters.find(({ eventId }) => eventId === null);
    assert.equal(odd?.headers.odd, 'a\u0000b');
    await assert.rejects(retry(lab, odd?.id ?? ''), { code: 'CONFLICT', message: /no event id/ });
  });

  test('takes times that Postgres does not have, and keys that no index takes', async () => {
    const lab = await ConsumerLab.open(stack);
    const topic = `${lab.group}.dlq`;
    await lab.createTopic(topic);
    projection(lab);
    const headers = { source_topic: lab.topic, consumer_group: lab.group, error_code: 'X' };
    const key = Array.from({ length: 120 }, () => randomUUID()).join('');
    await lab.send([
      { key, n: 1, topic, headers: { ...headers, failed_at: '0000-01-01T00:00:00Z' } },
      { key: 'a', n: 2, topic, headers, recordedAt: '0000-01-02T03:04:05Z' },
      { key: 'a', n: 3, topic, headers, recordedAt: `2026-01-02T03:04:05.${'6'.repeat(140)}Z` },
      { key: 'a', n: 4, topic, headers, recordedAt: '-', id: 'ffffffff-ffff-7fff-bfff-ffffffffffff' },
    ]);
    const letters = await untilLetters(lab, 4);
    assert.deepEqual(
      letters.map(({ payload }) => JSON.parse(payload ?? '').n),
      [1, 2, 3, 4],
    );
    assert.equal(letters[0]?.key, key);
  });

  test('leaves out a record that Postgres refuses, and enters those around it', async () => {
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    await lab.pool.query(`alter table ferry.dead_letter add constraint refused check (code <> 'REFUSED')`);
    const topic = `${lab.group}.dlq`;
    await lab.createTopic(topic);
    const counted = { in: 0, leftOut: 0 };
    const metrics = {
      deadLettersTotal: { add: (records: number) => (counted.in += records) },
      deadLettersLeftOutTotal: { add: (records: number) => (counted.leftOut += records) },
    };
    projection(lab, { metrics, topicPrefix: lab.group }); // and counts no letters of other tests
    const headers = { source_topic: lab.topic, consumer_group: lab.group };
    const codes = ['A', 'REFUSED', 'B', 'REFUSED', 'C'];
    await lab.send(codes.map((code, i) => ({ key: 'a', n: i, topic, headers: { ...headers, error_code: code } })));
    const letters = await untilLetters(lab, 3);
    assert.deepEqual(
      letters.map(({ code }) => code),
      ['A', 'B', 'C'],
    );
    await lab.send([{ key: 'a', n: 6, topic, headers: { ...headers, error_code: 'D' } }]);
    await untilLetters(lab, 4);
    await waitUntil('all being counted', async () => counted.in === 4);
    assert.equal(counted.leftOut, 2);
  });
});

describe('a dead letter that is retried', { concurrency: 4 }, () => {
  async function failed(broken: Set<number>, onPoison: 'park' | 'dead-letter', count = 4) {
    const lab = await ConsumerLab.open(stack);
    projection(lab);
    settlement(lab);
    lab.start({ handle: refusing(lab, broken), settings: { onPoison } });
    const ids = await lab.send(eventsOf('k', count));
    return { lab, ids };
  }

  test('goes back to its group alone, is applied once, and resolved by the inbox', async () => {
    const broken = new Set([2]);
    const { lab, ids } = await failed(broken, 'dead-letter');
    const [letter] = await untilLetters(lab, 1);
    await lab.untilEffects(3);
    broken.clear();
    await retry(lab, letter?.id ?? '');
    await assert.rejects(retry(lab, letter?.id ?? ''), { code: 'CONFLICT', message: /is replaying/ });
    const resolved = await untilState(lab, letter?.id ?? '', 'resolved');
    assert.deepEqual(await lab.effectsOf('k'), [1, 3, 4, 2]);
    assert.equal((await lab.inbox()).get(ids[1] ?? ''), 'applied');
    assert.deepEqual([resolved.stateBy, resolved.stateReason, resolved.retries], ['test', 'mended', 1]);
    await assert.rejects(retry(lab, letter?.id ?? ''), { code: 'CONFLICT', message: /is resolved/ });
  });

  test('is open again when it fails again, with what was wrong', async () => {
    const { lab, ids } = await failed(new Set([2]), 'dead-letter');
    const [letter] = await untilLetters(lab, 1);
    await retry(lab, letter?.id ?? '');
    await waitUntil(
      'it being tried',
      async () => (await findDeadLetter(lab.pool, letter?.id ?? '')).state === 'replaying',
    );
    const again = await untilState(lab, letter?.id ?? '', 'open');
    assert.deepEqual([again.code, again.errorMessage, again.retries], ['UNEXPECTED', 'no 2', 1]);
    assert.ok(again.failedAt > (letter?.failedAt ?? ''));
    assert.equal((await lab.inbox()).get(ids[1] ?? ''), 'dead-lettered');
    assert.deepEqual(await lab.effectsOf('k'), [1, 3, 4]);
  });

  test('tells nothing personal of what its handler quotes, neither at first nor when it fails again', async () => {
    const lab = await ConsumerLab.open(stack);
    projection(lab);
    settlement(lab);
    let tried = 0;
    lab.start({
      handle: async ({ value }) => {
        throw new NonRetryableError(`try ${++tried} with ${JSON.stringify(value)}`);
      },
      settings: { onPoison: 'dead-letter' },
    });
    await lab.send([{ key: 'k', n: 7, note: 'Ada "Countess" King' }]);
    const [letter] = await untilLetters(lab, 1);
    const told = (n: number) => `try ${n} with {"n":7,"note":"[redacted]"}`;
    assert.equal(letter?.errorMessage, told(1));
    assert.equal(letter.errorStack?.split('\n')[0], `NonRetryableError: ${told(1)}`);
    await retry(lab, letter.id);
    await waitUntil('the second try', async () => (await findDeadLetter(lab.pool, letter.id)).errorMessage !== told(1));
    assert.equal((await findDeadLetter(lab.pool, letter.id)).errorMessage, told(2));
  });

  test('releases its key if that is parked: all that waits is applied in order, and resolved', async () => {
    const broken = new Set([2]);
    const { lab } = await failed(broken, 'park');
    const letters = await untilLetters(lab, 3);
    broken.clear();
    await retry(lab, letters[0]?.id ?? '');
    for (const { id } of letters) await untilState(lab, id, 'resolved');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2, 3, 4]);
    assert.deepEqual(await lab.parked(), []);
  });

  test('of a key that is parked again is open again, behind the event that failed', async () => {
    const broken = new Set([2, 3]);
    const { lab, ids } = await failed(broken, 'park');
    const [second, third, fourth] = await untilLetters(lab, 3);
    broken.delete(2);
    await retry(lab, fourth?.id ?? '');
    const blocked = await untilState(lab, fourth?.id ?? '', 'open');
    assert.deepEqual([blocked.code, blocked.errorMessage.includes(ids[2] ?? '-')], ['KEY_PARKED', true]);
    await untilState(lab, second?.id ?? '', 'resolved');
    assert.equal((await findDeadLetter(lab.pool, third?.id ?? '')).state, 'open');
    assert.deepEqual(await lab.effectsOf('k'), [1, 2]);
  });

  test('and discarded instead is never applied, and its key goes on without it', async () => {
    const { lab, ids } = await failed(new Set([2]), 'park');
    const [poison, follower] = await untilLetters(lab, 3);
    await transaction(lab.pool, (tx) => discardLetter(tx, operator, { id: poison?.id ?? '', reason: 'wrong' }));
    await waitUntil('the inbox knowing', async () => (await lab.inbox()).get(ids[1] ?? '') === 'discarded');
    await retry(lab, follower?.id ?? '');
    await untilState(lab, follower?.id ?? '', 'resolved');
    await lab.untilReleased('k');
    assert.deepEqual(await lab.effectsOf('k'), [1, 3, 4]);
    assert.equal((await findDeadLetter(lab.pool, poison?.id ?? '')).state, 'discarded');
    const { rows } = await lab.pool.query<{ action: string; reason: string }>(
      'select action, reason from ferry.audit where subject = any($1) order by id',
      [[poison, follower].map((letter) => `dead-letter/${letter?.id}`)],
    );
    assert.deepEqual(rows, [
      { action: 'dead-letter.discard', reason: 'wrong' },
      { action: 'dead-letter.retry', reason: 'mended' },
    ]);
  });

  test('that does not exist is not found', async () => {
    const lab = await ConsumerLab.open(stack);
    await assert.rejects(retry(lab, randomUUID()), { code: 'NOT_FOUND' });
  });
});
