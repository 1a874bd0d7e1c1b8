/** Records and dead letters: what an event becomes, and that no event can stop the others. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventTiers } from '../../../src/config/tiers.ts';
import type { EncodableEvent, EncodeResult, EventEncoder } from '../../../src/events/encoder.ts';
import type { OutboxEvent, Position } from '../../../src/events/outbox-event.ts';
import { partitionOf } from '../../../src/events/partition.ts';
import { type OutgoingRecord, recordBytes } from '../../../src/events/record.ts';
import { TopicRoutes } from '../../../src/events/routes.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import type { BatchEntry } from '../../../src/relay/batch.ts';
import { RecordFactory } from '../../../src/relay/record-factory.ts';
import { eventId, lsn, noneParked, outboxEvent } from '../../support/relay-fixtures.ts';

const POSITION: Position = { commitLsn: lsn(0x16b374d8), seq: 3 };
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const OK: EncodeResult = { ok: true, value: Buffer.from('avro'), schemaId: 7, subject: 's' };
const REFUSAL = { code: 'SCHEMA_UNKNOWN', message: 'no such type', path: null } as const;
const UNKNOWN: EncodeResult = { ok: false, refusal: REFUSAL };

/** Gives the results in turn, the last one for ever, and counts what it is asked. */
class ScriptedEncoder implements EventEncoder {
  readonly asked: string[] = [];
  readonly #results: EncodeResult[];
  refreshed: () => Promise<boolean> = async () => true;

  constructor(...results: EncodeResult[]) {
    this.#results = results;
  }

  encode(_event: EncodableEvent, topic: string): EncodeResult {
    this.asked.push(`encode ${topic}`);
    const [next = UNKNOWN] = this.#results;
    if (this.#results.length > 1) this.#results.shift();
    return next;
  }

  refresh(): Promise<boolean> {
    this.asked.push('refresh');
    return this.refreshed();
  }
}

function factoryWith(
  encoder: EventEncoder,
  maxEventBytes = 10_000,
  known: Record<string, number> = {},
  { parked = noneParked(), tiers = new EventTiers() } = {},
) {
  const topics = new Map(Object.entries(known));
  const met: string[] = [];
  const aside: string[] = [];
  const refused = new Set<string>();
  const factory = new RecordFactory({
    ...{ encoder, maxEventBytes, parked, tiers, source: 'shop' },
    routes: new TopicRoutes('t.', new Map([['order', 'shop.order']])),
    topics: {
      partitions: (topic) => topics.get(topic),
      meet: async (topic) => {
        met.push(topic);
        if (refused.has(topic)) throw new FerryError('TOPIC_REFUSED', `no ${topic}`);
        topics.set(topic, 6);
        return 6;
      },
      meetAside: async (topic) => {
        aside.push(topic);
        if (topic === 'unfit') throw new FerryError('RELAY_CONFIGURATION', 'takes small batches only');
        return 4;
      },
    },
  });
  return { factory, met, aside, refused };
}

function recordOf(entry: BatchEntry): OutgoingRecord {
  assert.ok(entry.record !== null);
  return entry.record;
}

/** Null for an event that is published. */
function codeOf({ note }: BatchEntry): string | null {
  return note?.kind === 'dead-letter' ? note.code : null;
}

const KNOWN = { 't.shop.order': 12, 't.shop.order.dlq': 6 };

describe('an event that can be encoded', () => {
  const event = outboxEvent(1, {
    aggregateId: 'o-é',
    aggregateVersion: 4n,
    traceparent: TRACE,
    headers: { tenant: 'x' },
  });

  test('becomes a record from memory alone when its topic and schema are known', () => {
    const encoder = new ScriptedEncoder(OK);
    const { factory, met } = factoryWith(encoder, 10_000, KNOWN);
    const entry = factory.tryMake(event, POSITION);
    assert.deepEqual(entry?.record, {
      topic: 't.shop.order',
      partition: partitionOf('o-é', 12),
      key: 'o-é',
      value: Buffer.from('avro'),
      headers: {
        tenant: 'x',
        ce_id: event.id,
        ce_type: 'test.Happened',
        ce_source: 'shop',
        ce_subject: 'o-é',
        ce_time: event.occurredAt,
        ce_specversion: '1.0',
        'content-type': 'application/vnd.confluent.avro',
        ce_dataschema: 'schema-registry:s:7',
        traceparent: TRACE,
        ferry_lsn: '0/16B374D8',
        ferry_seq: '3',
        ferry_aggregate_type: 'order',
        ferry_aggregate_version: '4',
        ferry_recorded_at: event.recordedAt,
      },
    });
    const { eventId, traceparent, position, note } = entry;
    assert.deepEqual(
      { eventId, traceparent, position, note },
      {
        ...{ eventId: event.id, traceparent: TRACE, position: POSITION, note: null },
      },
    );
    assert.deepEqual([encoder.asked, met], [['encode t.shop.order'], []]);
  });

  test('waits for its topic to be made, once', async () => {
    const { factory, met } = factoryWith(new ScriptedEncoder(OK));
    assert.equal(factory.tryMake(event, POSITION), null);
    const made = await factory.make(event, POSITION);
    assert.equal(made.record?.partition, partitionOf('o-é', 6));
    assert.notEqual(factory.tryMake(event, POSITION), null);
    assert.deepEqual(met, ['t.shop.order']);
  });

  test('a tombstone is a null value without a schema', () => {
    const { factory } = factoryWith(
      new ScriptedEncoder({ ok: true, value: null, schemaId: null, subject: null }),
      10_000,
      KNOWN,
    );
    const record = factory.tryMake(outboxEvent(1, { payload: { kind: 'tombstone' } }), POSITION)?.record;
    assert.equal(record?.value, null);
    assert.equal(record?.headers.ce_dataschema, undefined);
  });

  test('its size counts headers and key', () => {
    const size = (changes: Partial<OutboxEvent>) =>
      factoryWith(new ScriptedEncoder(OK), 10_000, KNOWN).factory.tryMake(outboxEvent(1, changes), POSITION)?.bytes ??
      0;
    const plain = size({});
    assert.ok(plain > 'avro'.length);
    assert.ok(size({ headers: { a: 'x'.repeat(100) } }) > plain + 100);
    assert.ok(size({ aggregateId: 'x'.repeat(100) }) > plain + 100);
  });
});

describe('an event that is refused', () => {
  test('is encoded again after one refresh, and then is no dead letter', async () => {
    const encoder = new ScriptedEncoder(UNKNOWN, OK);
    const { factory } = factoryWith(encoder, 10_000, KNOWN);
    const entry = await factory.make(outboxEvent(1), POSITION);
    assert.equal(entry.note, null);
    assert.deepEqual(encoder.asked, ['encode t.shop.order', 'refresh', 'encode t.shop.order']);
  });

  test('waits while the registry is away: nothing is known, so nothing is dead', async () => {
    const encoder = new ScriptedEncoder(UNKNOWN);
    encoder.refreshed = () => Promise.reject(new FerryError('REGISTRY_UNAVAILABLE', 'away'));
    const { factory } = factoryWith(encoder, 10_000, KNOWN);
    assert.equal(factory.tryMake(outboxEvent(1), POSITION), null);
    await assert.rejects(factory.make(outboxEvent(1), POSITION), { code: 'REGISTRY_UNAVAILABLE' });
  });

  test('becomes a dead letter: the original bytes, and headers that say what happened and where from', async () => {
    const { factory } = factoryWith(new ScriptedEncoder(UNKNOWN), 10_000, KNOWN);
    const event = outboxEvent(1, { headers: { tenant: 'x', error_code: 'forged' } });
    const entry = await factory.make(event, POSITION);
    assert.deepEqual([codeOf(entry), entry.eventId], ['SCHEMA_UNKNOWN', event.id]);
    const { topic, partition, key, value, headers } = recordOf(entry);
    assert.deepEqual(
      [topic, partition, key],
      ['t.shop.order.dlq', partitionOf(event.aggregateId, 6), event.aggregateId],
    );
    assert.equal(value?.toString(), '{"n":1}');
    const { first_failed_at: first, failed_at: last } = headers;
    assert.equal(first, last);
    assert.ok(!Number.isNaN(Date.parse(String(first))));
    const expected = {
      ...{ tenant: 'x', ce_id: event.id, ce_type: 'test.Happened', ferry_lsn: '0/16B374D8', ferry_seq: '3' },
      ...{ original_record: 'value', error_type: 'EncodeRefusal', error_code: 'SCHEMA_UNKNOWN' },
      ...{ error_message: 'no such type', retry_count: '0', max_retries: '0', replayable: 'false' },
      ...{ source_topic: 't.shop.order', source_lsn: '0/16B374D8', source_seq: '3' },
    };
    assert.partialDeepStrictEqual(headers, expected);
  });

  test('carries bytes as bytes, and a tombstone as nothing', async () => {
    const { factory } = factoryWith(new ScriptedEncoder(UNKNOWN), 10_000, KNOWN);
    const bytes = Buffer.from([0, 0, 0, 0, 9, 255]);
    const avro = await factory.make(outboxEvent(1, { payload: { kind: 'avro', bytes } }), POSITION);
    assert.deepEqual(avro.record?.value, bytes);
    const tombstone = await factory.make(outboxEvent(2, { payload: { kind: 'tombstone' } }), POSITION);
    assert.equal(tombstone.record?.value, null);
  });

  test('stays in the outbox with a reference in its place when it is too large to carry', async () => {
    const { factory } = factoryWith(new ScriptedEncoder(UNKNOWN), 1_000, KNOWN);
    const large: Array<Partial<OutboxEvent>> = [
      { payload: { kind: 'json', text: `"${'x'.repeat(2_000)}"` } },
      { headers: { large: 'x'.repeat(2_000) } },
    ];
    for (const changes of large) {
      const entry = await factory.make(outboxEvent(1, changes), POSITION);
      const [record, { eventId }] = [recordOf(entry), entry];
      assert.equal(record.value, null);
      assert.equal(record.headers.original_record, `outbox:${eventId}`);
      assert.equal(record.headers.ce_id, eventId);
      assert.equal(record.headers.large, undefined);
      assert.ok(recordBytes(record) <= 1_000);
    }
  });
});

test('an event that encodes but is too large with its headers is a dead letter, and a small one after it is not', async () => {
  const { factory } = factoryWith(new ScriptedEncoder(OK), 1_000, KNOWN);
  const large = outboxEvent(1, { headers: { large: 'x'.repeat(2_000) } });
  assert.equal(factory.tryMake(large, POSITION), null);
  const entry = await factory.make(large, POSITION);
  assert.deepEqual([codeOf(entry), entry.record?.topic], ['EVENT_TOO_LARGE', 't.shop.order.dlq']);
  assert.equal(factory.tryMake(outboxEvent(2, { aggregateId: 'other' }), POSITION)?.note, null);
});

test('an aggregatetype that leads to no topic is a dead letter in the topic for those, without asking for a schema', async () => {
  const encoder = new ScriptedEncoder(OK);
  const { factory, met } = factoryWith(encoder);
  for (const aggregateType of ['not a topic', '__transaction_state', 'ferry.parked.main', 'order.dlq']) {
    const stray = outboxEvent(1, { aggregateType, aggregateId: aggregateType });
    assert.equal(factory.tryMake(stray, POSITION), null);
    const entry = await factory.make(stray, POSITION);
    assert.deepEqual([codeOf(entry), entry.record?.topic], ['TOPIC_INVALID', 't.unrouted.dlq']);
  }
  assert.deepEqual([encoder.asked, met], [[], ['t.unrouted.dlq']]);
});

describe('an event whose topic Kafka refuses', () => {
  const first = outboxEvent(1, { aggregateId: 'o-1' });
  const second = outboxEvent(2, { aggregateId: 'o-1' });

  test('is a dead letter among those without a topic, and holds its key up there', async () => {
    const parked = noneParked();
    const { factory, met, refused } = factoryWith(new ScriptedEncoder(OK), 10_000, {}, { parked });
    refused.add('t.shop.order');
    const made = await factory.make(first, POSITION);
    assert.deepEqual([codeOf(made), made.record?.topic], ['TOPIC_REFUSED', 't.unrouted.dlq']);
    assert.equal(made.record?.headers.error_message, 'no t.shop.order');
    refused.clear(); // whoever is next does not overtake it
    assert.equal(factory.tryMake(second, POSITION), null);
    const behind = await factory.make(second, POSITION);
    assert.deepEqual([codeOf(behind), behind.record?.topic], ['KEY_PARKED', 't.unrouted.dlq']);
    assert.deepEqual(met, ['t.shop.order', 't.unrouted.dlq']);
    assert.equal(parked.find('t.unrouted', 'o-1')?.events.length, 2);
    const released = await factory.publish(first, POSITION, { freshSinceMs: performance.now() });
    assert.equal('record' in released && released.record?.topic, 't.shop.order');
    for (const { id } of [first, second]) parked.remove('t.unrouted', 'o-1', id);
    assert.notEqual(factory.tryMake(second, POSITION), null, 'the key is free under both names');
  });

  test('is not asked for again by each of its kind', async () => {
    const { factory, met, refused } = factoryWith(new ScriptedEncoder(OK));
    refused.add('t.shop.order');
    for (const n of [1, 2, 3]) await factory.make(outboxEvent(n, { aggregateId: `o-${n}` }), POSITION);
    assert.deepEqual(met, ['t.shop.order', 't.unrouted.dlq']);
  });

  test('and that cannot be encoded either, or whose dead-letter topic is refused, stops nobody', async () => {
    const { factory, refused } = factoryWith(new ScriptedEncoder(UNKNOWN), 10_000, { 't.shop.order': 12 });
    refused.add('t.shop.order.dlq');
    const made = await factory.make(first, POSITION);
    assert.deepEqual([codeOf(made), made.record?.topic], ['SCHEMA_UNKNOWN', 't.unrouted.dlq']);
    const { topic } = await factory.deadLetterAgain(first, POSITION, { topic: 't.shop.order', refusal: REFUSAL }, {});
    assert.equal(topic, 't.unrouted.dlq');
  });

  test('waits when even the last dead-letter topic is refused: there is nowhere to put it', async () => {
    const { factory, refused } = factoryWith(new ScriptedEncoder(OK));
    for (const topic of ['t.shop.order', 't.unrouted.dlq']) refused.add(topic);
    await assert.rejects(factory.make(first, POSITION), { code: 'TOPIC_REFUSED' });
  });
});

test('a row that is no event is a dead letter with the row as it was, under its own id', async () => {
  const { factory } = factoryWith(new ScriptedEncoder(OK), 10_000, KNOWN);
  const refusal = { code: 'EVENT_MALFORMED', message: 'outbox column type is null', path: null } as const;
  const { id } = outboxEvent(1);
  const row = { id, aggregateType: 'order', aggregateId: 'o-1', refusal, original: Buffer.from('tuple') };
  const entry = await factory.makeMalformed(row, POSITION);
  assert.deepEqual([codeOf(entry), entry.eventId], ['EVENT_MALFORMED', id]);
  assert.equal(recordOf(entry).value, row.original);
  const { ce_id, source_topic, source_seq } = recordOf(entry).headers;
  assert.deepEqual([ce_id, source_topic, source_seq], [id, 't.shop.order', '3']);
  const stray = await factory.makeMalformed({ ...row, aggregateType: 'not a topic' }, POSITION);
  assert.equal(stray.record?.topic, 't.unrouted.dlq');
});

describe('an event that is replayed', () => {
  const event = outboxEvent(1, { aggregateId: 'o-1', headers: { tenant: 'x', ferry_replay_id: 'forged' } });
  const message = { replay: eventId(9), reason: 'the projection was lost', topic: null, ordinal: 7, of: null, event };

  test('is the record it was, with the marks of its replay, and no event of the ledger', async () => {
    const { factory } = factoryWith(new ScriptedEncoder(OK), 10_000, KNOWN);
    const [made, original] = [await factory.makeReplayed(message, POSITION), await factory.make(event, POSITION)];
    assert.deepEqual(made.record, {
      ...recordOf(original),
      headers: {
        ...recordOf(original).headers,
        ferry_replay_id: message.replay,
        ferry_replay_reason: 'the projection was lost',
        ferry_replay_ordinal: '7',
      },
    });
    assert.equal(made.byControl, true);
    const copied = await factory.makeReplayed({ ...message, of: eventId(3) }, POSITION);
    assert.equal(recordOf(copied).headers.ferry_replay_of, eventId(3));
  });

  test('goes to a side topic in the form that it has in its own', async () => {
    const encoder = new ScriptedEncoder(OK);
    const { factory, met, aside } = factoryWith(encoder, 10_000, KNOWN);
    const record = recordOf(await factory.makeReplayed({ ...message, topic: 'aside' }, POSITION));
    assert.deepEqual([record.topic, record.partition], ['aside', partitionOf('o-1', 4)]);
    assert.deepEqual([encoder.asked, met, aside], [['encode t.shop.order'], [], ['aside']]);
  });

  test('that cannot be published so is a dead letter beside its topic, and not one of the event itself', async () => {
    const unfit = await factoryWith(new ScriptedEncoder(OK), 10_000, KNOWN).factory.makeReplayed(
      { ...message, topic: 'unfit' },
      POSITION,
    );
    assert.deepEqual(
      [recordOf(unfit).topic, recordOf(unfit).headers.error_code, unfit.note],
      ['t.shop.order.dlq', 'RELAY_CONFIGURATION', null],
    );
    assert.equal(recordOf(unfit).headers.ferry_replay_id, message.replay);
    const { factory } = factoryWith(new ScriptedEncoder(UNKNOWN), 10_000, KNOWN);
    for (const topic of [null, 'aside']) {
      const refused = await factory.makeReplayed({ ...message, topic }, POSITION);
      assert.deepEqual([recordOf(refused).topic, refused.note, refused.byControl], ['t.shop.order.dlq', null, true]);
    }
  });
});

test('a topic that cannot be met is no dead letter: the event waits', async () => {
  const away = () => Promise.reject(new FerryError('PART_UNREACHABLE', 'away'));
  const factory = new RecordFactory({
    ...{ encoder: new ScriptedEncoder(OK), maxEventBytes: 1_000, source: 's', routes: new TopicRoutes('', new Map()) },
    topics: { partitions: () => undefined, meet: away, meetAside: away },
    ...{ parked: noneParked(), tiers: new EventTiers() },
  });
  await assert.rejects(factory.make(outboxEvent(1), POSITION), { code: 'PART_UNREACHABLE' });
  const message = { replay: eventId(9), reason: 'x', topic: 'aside', ordinal: 1, of: null, event: outboxEvent(1) };
  await assert.rejects(factory.makeReplayed(message, POSITION), { code: 'PART_UNREACHABLE' });
});
