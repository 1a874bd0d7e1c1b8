/** Replays on real parts: what is selected, what the records are, and that an operator can stop one and let it go on. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openEventLog } from '../../src/cli/event-log.ts';
import { kafkaOptions } from '../../src/kafka/client.ts';
import { groupsOfTopics } from '../../src/kafka/topic-groups.ts';
import { dryRun } from '../../src/ops/replays.ts';
import type { Selection } from '../../src/replay/selection.ts';
import { untilConsumed } from '../support/consumer-group.ts';
import { orderCancelled, orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RecorderGroup } from '../support/recorder-group.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { EVERYTHING, ReplayLab } from '../support/replay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(11);
const placed = (aggregateId: string, version: number, more: object = {}) => ({
  aggregateId,
  version,
  payload: orderPlaced(random),
  ...more,
});

describe('a replay', { timeout: 300_000 }, () => {
  let lab: RelayLab;
  let replays: ReplayLab;
  let ids: string[];
  const aside = () => `${lab.config.TOPIC_PREFIX}aside`;

  before(async () => {
    lab = await RelayLab.open(stack, { TOPIC_PARTITIONS: '3' });
    replays = new ReplayLab(lab);
    await lab.stream();
    lab.newProcess('ops').start();
    ids = await lab.insert([
      placed('a', 1, { headers: { tenant: 'blue', ferry_replay_id: 'forged' } }),
      placed('b', 1),
      placed('a', 2, { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' }),
      { aggregateId: 'b', version: 2, type: 'commerce.OrderCancelled', payload: orderCancelled(random) },
      { aggregateId: 'a', version: 3, tombstone: true },
    ]);
    await lab.untilPublished(ids.at(-1));
    const [avro] = (await lab.records(lab.topic('order'))).filter(({ headers }) => headers.ce_id === ids[1]);
    ids.push(...(await lab.insert([{ aggregateId: 'b', version: 3, payloadBytes: avro?.value ?? Buffer.of() }])));
    await lab.untilPublished(ids.at(-1));
  });
  after(async () => {
    await replays.close();
    await lab.close();
  });

  test('to a side topic has the same records, with its marks and its own place in the WAL', async () => {
    const id = await replays.start({ topic: aside() });
    const job = await replays.untilCompleted(id);
    assert.deepEqual([job.selected, job.emitted, job.leftOut], [6n, 6n, 0n]);
    assert.deepEqual([job.firstEventId, job.lastEventId], [ids[0], ids[5]]);
    const records = await replays.assertReplayed(id, aside(), ids);
    const originals = new Map((await lab.records(lab.topic('order'))).map((record) => [record.headers.ce_id, record]));
    for (const { key, value, headers } of records) {
      const original = originals.get(headers.ce_id ?? '');
      assert.deepEqual([key, value], [original?.key, original?.value]);
      const { ferry_lsn, ferry_seq, ferry_replay_id, ferry_replay_reason, ferry_replay_ordinal, ...kept } = headers;
      const { ferry_lsn: lsn, ferry_seq: seq, ferry_replay_id: forged, ...own } = original?.headers ?? {};
      assert.deepEqual(kept, own);
      assert.deepEqual([ferry_replay_id, ferry_replay_reason], [id, 'the projection was lost']);
      assert.notEqual(`${ferry_lsn} ${ferry_seq}`, `${lsn} ${seq}`);
      assert.ok(forged === undefined || forged === 'forged');
    }
    assert.equal((await lab.checkpoints()).at(-1)?.topics.has(aside()), false, 'a side topic may be deleted one day');
  });

  test('to their own topic repeats them there, and is no fault in the count', async () => {
    const before = await lab.count();
    const id = await replays.start();
    await replays.untilCompleted(id);
    await replays.assertReplayed(id, lab.topic('order'), ids);
    const report = await lab.count();
    assert.equal(report.replayed, before.replayed + 6);
    assert.deepEqual([report.duplicates, report.outOfOrder, report.unexpected, report.undecodable], [0, 0, 0, 0]);
    assert.equal(await lab.statusOf(ids[0]), 'published');
  });

  test('under new ids tells which event each repeats, and when it was made anew', async () => {
    const id = await replays.start({ newIds: true, topic: aside() });
    await replays.untilCompleted(id);
    const records = await replays.assertReplayed(id, aside(), ids);
    assert.equal(new Set([...ids, ...records.map(({ headers }) => headers.ce_id)]).size, 2 * ids.length);
    for (const { headers } of records) {
      assert.ok(Date.parse(headers.ferry_recorded_at ?? '') > Date.now() - 60_000);
      assert.match(headers.ferry_recorded_at ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
  });

  test('is of the rows that all criteria fit, in any combination', async () => {
    const { rows } = await lab.sql<{ recorded: Date; lsn: string; seq: string }>(
      'select recorded_at as recorded, inserted_lsn::text as lsn, seq::text from ferry.outbox order by seq',
    );
    const log = await openEventLog(lab.config);
    const [bytes] = (await lab.records(lab.topic('order'))).filter(({ headers }) => headers.ce_id === ids[5]);
    const schemaId = bytes?.value?.readUInt32BE(1) ?? 0;
    await log.close();
    const time = new Date(rows[5]?.recorded ?? 0).toISOString();
    const pick = (...at: number[]) => at.map((i) => ids[i]);
    const cases: Array<[Partial<Selection>, Array<string | undefined>]> = [
      [{ eventIds: [ids[4] ?? '', ids[0] ?? ''] }, pick(0, 4)],
      [{ aggregateType: 'order', aggregateId: 'b' }, pick(1, 3, 5)],
      [{ aggregateId: 'b', type: 'commerce.OrderPlaced' }, pick(1, 5)],
      [{ type: 'commerce.OrderCancelled' }, pick(3)],
      [{ recordedFrom: time }, pick(5)],
      [{ recordedTo: time }, pick(0, 1, 2, 3, 4)],
      [{ lsnFrom: rows[5]?.lsn ?? '' }, pick(5)],
      [{ lsnTo: rows[5]?.lsn ?? '', aggregateId: 'b' }, pick(1, 3)],
      [{ schemaId }, pick(5)],
      [{ aggregateType: 'customer' }, []],
    ];
    for (const [criteria, expected] of cases) {
      const id = await replays.start({ selection: { ...EVERYTHING, ...criteria }, topic: aside() });
      await replays.untilCompleted(id);
      await replays.assertReplayed(id, aside(), expected as string[]);
    }
  });

  test('takes what was committed when it began, and nothing later', async () => {
    const id = await replays.start({ topic: aside(), eventsPerSecond: 4 });
    await replays.until(id, 'publishing', ({ emitted }) => emitted > 0n);
    await replays.operate(id, 'pause');
    const [later] = await lab.insert([placed('later', 1)]);
    await lab.untilPublished(later);
    await replays.operate(id, 'resume');
    await replays.untilCompleted(id);
    await replays.assertReplayed(id, aside(), ids);
  });

  test('leaves out what the relay could not publish: that is released, not replayed', async () => {
    const [poison] = await lab.insert([{ aggregateId: 'poison', version: 1, payload: { not: 'an order' } }]);
    const selection = { ...EVERYTHING, aggregateId: 'poison' };
    await waitUntil('the dead letter', async () => (await lab.statusOf(poison)) === 'dead-lettered');
    const id = await replays.start({ selection, topic: aside() });
    const { selected, emitted, leftOut } = await replays.untilCompleted(id);
    assert.deepEqual([selected, emitted, leftOut], [1n, 0n, 1n]);
    const preview = await dryRun(
      replays.pool,
      replays.place,
      async () => new Map(),
      { selection, topic: null },
      10_000,
    );
    assert.deepEqual([preview.events, preview.lines[0]?.deadLettered], [1, 1]);
  });

  test('can be counted first, with who will see it, and nothing is written', async () => {
    const group = await RecorderGroup.open(lab, 'recorders');
    const member = group.newMember();
    member.start();
    await untilConsumed(lab.config, group.group, [lab.topic('order')]);
    await member.stop();
    const kafka = kafkaOptions(lab.config, 'test', quiet.logger);
    const selection = { ...EVERYTHING, eventIds: ids };
    const count = async () => (await lab.sql<{ n: number }>('select count(*)::int as n from ferry.replay')).rows[0]?.n;
    const jobs = await count();
    const groupsOf = (topics: readonly string[]) => groupsOfTopics(kafka, topics);
    const preview = await dryRun(replays.pool, replays.place, groupsOf, { selection, topic: null }, 10_000);
    assert.equal(preview.events, 6);
    assert.deepEqual(
      preview.lines.map(({ type, topic, events, schemaUnknown }) => [type, topic, events, schemaUnknown]),
      [
        ['commerce.OrderPlaced', lab.topic('order'), 5, 3],
        ['commerce.OrderCancelled', lab.topic('order'), 1, 1],
      ],
    );
    assert.deepEqual([preview.first?.id, preview.last?.id], [ids[0], ids[5]]);
    assert.deepEqual(preview.topics, [{ topic: lab.topic('order'), groups: [group.group] }]);
    const side = await dryRun(replays.pool, replays.place, groupsOf, { selection, topic: aside() }, 10_000);
    assert.deepEqual(side.topics, [{ topic: aside(), groups: [] }]);
    assert.equal(await count(), jobs);
  });

  test('waits for a relay that is behind, and goes on when it is not', async () => {
    lab.relay.freeze();
    await lab.sql(`select pg_logical_emit_message(true, 'noise', repeat('x', 1000000)) from generate_series(1, 70)`);
    const id = await replays.start({ topic: aside() });
    const waiting = await replays.until(id, 'waiting', ({ errorCode }) => errorCode === 'REPLAY_WAITS');
    assert.equal(waiting.emitted, 0n);
    lab.relay.thaw();
    const done = await replays.untilCompleted(id);
    assert.equal(done.errorCode, null);
    await replays.assertReplayed(id, aside(), await replays.rows(`aggregateid not in ('poison')`));
  });

  test('keeps to its rate', async () => {
    const selection = { ...EVERYTHING, eventIds: ids };
    const id = await replays.start({ selection, topic: aside(), eventsPerSecond: 4 });
    await replays.untilCompleted(id);
    const times = (await replays.assertReplayed(id, aside(), ids)).map(({ timestampMs }) => timestampMs);
    const tookMs = Math.max(...times) - Math.min(...times);
    assert.ok(tookMs >= 900, `six events at four a second took ${tookMs} ms`);
  });

  test('stops where it is and goes on there; cancelled, it ends', async () => {
    const selection = { ...EVERYTHING, eventIds: ids };
    const id = await replays.start({ selection, topic: aside(), eventsPerSecond: 4 });
    await replays.until(id, 'publishing', ({ emitted }) => emitted > 0n);
    await replays.operate(id, 'pause', 'the disk is full');
    await assert.rejects(replays.operate(id, 'pause'), { code: 'CONFLICT', message: /is paused/ });
    const { emitted } = await replays.show(id);
    await replays.operate(id, 'resume');
    await replays.untilCompleted(id);
    await replays.assertReplayed(id, aside(), ids);
    await assert.rejects(replays.operate(id, 'cancel'), { code: 'CONFLICT', message: /is completed/ });
    assert.ok(emitted < 6n);

    const other = await replays.start({ selection, topic: aside(), eventsPerSecond: 4 });
    await replays.until(other, 'publishing', ({ emitted: some }) => some > 0n);
    await replays.operate(other, 'cancel', 'a mistake');
    const ended = await replays.show(other);
    assert.deepEqual([ended.state, ended.endedAt !== null], ['cancelled', true]);
    const { rows } = await lab.sql<{ action: string; reason: string }>(
      `select action, reason from ferry.audit where subject = any($1) order by id`,
      [[`replay/${id}`, `replay/${other}`]],
    );
    assert.deepEqual(
      rows.map(({ action, reason }) => `${action}: ${reason}`),
      [
        'replay.start: the projection was lost',
        'replay.pause: the disk is full',
        'replay.resume: because',
        'replay.start: the projection was lost',
        'replay.cancel: a mistake',
      ],
    );
  });

  test('goes to no topic that others take for something else', async () => {
    const prefix = lab.config.TOPIC_PREFIX;
    const taken = [lab.topic('order'), lab.deadLetterTopic('order'), `${prefix}recorders.dlq`, '__consumer_offsets'];
    taken.push(`ferry.checkpoint.${lab.config.RELAY_NAME}`, `${prefix}unrouted`, '_schemas', 'no topic', '..');
    for (const topic of taken) await assert.rejects(replays.start({ topic }), { code: 'REPLAY_TOPIC_INVALID' }, topic);
    await lab.insert([placed('x', 1, { aggregateType: 'unlisted' })]);
    const id = await replays.start({ topic: `${prefix}unlisted` });
    const { state, errorCode } = await replays.until(id, 'refused', (job) => job.state !== 'checking');
    assert.deepEqual([state, errorCode], ['refused', 'REPLAY_TOPIC_INVALID']);
    assert.deepEqual(await replays.records(id, `${prefix}unlisted`), []);
  });

  test('needs a selection that says something', async () => {
    await assert.rejects(replays.start({ selection: EVERYTHING }), { code: 'INVALID_REQUEST', message: /select/ });
    const backwards = { ...EVERYTHING, recordedFrom: '2026-01-02T00:00:00Z', recordedTo: '2026-01-01T00:00:00Z' };
    await assert.rejects(replays.start({ selection: backwards }), { code: 'INVALID_REQUEST' });
    const nowhere = { ...EVERYTHING, eventIds: ['01900000-0000-7000-8000-000000000000'] };
    await assert.rejects(replays.start({ selection: nowhere }), { code: 'BUSINESS_RULE' });
  });
});
