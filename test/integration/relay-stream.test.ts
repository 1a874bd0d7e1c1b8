/** What the relay makes of the outbox: records as consumers read them, dead letters, and rows that are older than its slot. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
import { parseLsn } from '../../src/kernel/lsn.ts';
import { orderCancelled, orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(7);
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const MICROSECONDS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

describe('a record', () => {
  let lab: RelayLab;

  before(async () => {
    lab = await RelayLab.open(stack, { CLOUDEVENTS_SOURCE: '/tests', MAX_EVENT_BYTES: '20000', TOPIC_PARTITIONS: '6' });
    // a database may print values in other forms by default; what is published must not depend on it
    const database = new URL(lab.environment.DATABASE_URL ?? '').pathname.slice(1);
    for (const setting of [`bytea_output = 'escape'`, `timezone = 'Asia/Tokyo'`, `datestyle = 'SQL, DMY'`]) {
      await lab.sql(`alter database ${database} set ${setting}`);
    }
    await lab.stream();
  });
  after(() => lab.close());

  async function recordsOf(aggregateId: string, topic = lab.topic('order')): Promise<LogRecord[]> {
    return (await lab.records(topic)).filter(({ key }) => key?.toString() === aggregateId);
  }

  async function onlyRecordOf(aggregateId: string, topic?: string): Promise<LogRecord> {
    const [record, ...others] = await recordsOf(aggregateId, topic);
    assert.ok(record !== undefined && others.length === 0, `${others.length + 1} records of ${aggregateId}`);
    return record;
  }

  test('has the headers of a CloudEvent, the trace and Ferry’s position', async () => {
    const traceparent = `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`;
    const [id] = await lab.insert([
      {
        aggregateId: 'headers',
        version: 42,
        payload: orderPlaced(random),
        headers: { tenant: 'blue', ce_type: 'forged', ümlaut: 'ä' },
        traceparent,
        occurredAt: '2026-01-02T03:04:05.678901Z',
      },
    ]);
    await lab.assertExactlyOnce();
    const { headers, value } = await onlyRecordOf('headers');
    const { ferry_lsn = '', ferry_recorded_at = '', ...others } = headers;
    assert.deepEqual(others, {
      tenant: 'blue',
      ümlaut: 'ä',
      ce_id: id,
      ce_type: 'commerce.OrderPlaced',
      ce_source: '/tests',
      ce_subject: 'headers',
      ce_time: '2026-01-02T03:04:05.678901Z',
      ce_specversion: '1.0',
      ce_dataschema: `schema-registry:${lab.topic('order')}-commerce.OrderPlaced:${value?.readInt32BE(1)}`,
      'content-type': 'application/vnd.confluent.avro',
      traceparent,
      ferry_seq: '1',
      ferry_aggregate_type: 'order',
      ferry_aggregate_version: '42',
    });
    assert.match(id ?? '', UUID_V7);
    assert.match(ferry_recorded_at, MICROSECONDS);
    const { rows } = await lab.sql<{ inserted: string }>(
      'select inserted_lsn::text as inserted from ferry.outbox where id = $1',
      [id],
    );
    assert.ok(parseLsn(ferry_lsn) > parseLsn(rows[0]?.inserted ?? ''), 'its position is that of the commit');
  });

  test('is in the partition where Java’s producer would put its key', async () => {
    /** Hashes from org.apache.kafka.common.utils.UtilsTest#testMurmur2. */
    const javaHashes = { '21': -973932308, foobar: -790332482, abc: 479470107, 'a-little-bit-long-string': -985981536 };
    await lab.insert(Object.keys(javaHashes).map((aggregateId) => ({ aggregateId, payload: orderPlaced(random) })));
    await lab.assertExactlyOnce();
    for (const [key, hash] of Object.entries(javaHashes)) {
      assert.equal((await onlyRecordOf(key)).partition, (hash & 0x7fffffff) % 6, key);
    }
  });

  test('counts its place in the transaction', async () => {
    await lab.insert([1, 2, 3].map((version) => ({ aggregateId: 'places', version, payload: orderPlaced(random) })));
    await lab.assertExactlyOnce();
    const records = await recordsOf('places');
    assert.deepEqual(
      records.map(({ headers }) => headers.ferry_seq),
      ['1', '2', '3'],
    );
    assert.equal(new Set(records.map(({ headers }) => headers.ferry_lsn)).size, 1);
  });

  test('of a binary payload has exactly its bytes', async () => {
    await lab.insert([{ aggregateId: 'as-json', payload: orderCancelled(random), type: 'commerce.OrderCancelled' }]);
    await lab.assertExactlyOnce();
    const { value } = await onlyRecordOf('as-json');
    assert.ok(value !== null);
    await lab.insert([{ aggregateId: 'as-bytes', payloadBytes: value, type: 'commerce.OrderCancelled' }]);
    await lab.assertExactlyOnce();
    assert.deepEqual((await onlyRecordOf('as-bytes')).value, value);
  });

  test('of a tombstone has no value', async () => {
    const [id] = await lab.insert([{ aggregateId: 'gone', tombstone: true }]);
    await lab.assertExactlyOnce();
    const { value, headers } = await onlyRecordOf('gone');
    assert.equal(value, null);
    assert.equal(headers.ce_id, id);
  });

  test('of an event that cannot be encoded is a dead letter; what follows of its key waits behind it, and the transaction goes on', async () => {
    const bad = { ...orderPlaced(random), total: 'not a decimal' };
    const [before, poison, follower, other] = await lab.insert([
      { aggregateId: 'poison', version: 1, payload: orderPlaced(random) },
      { aggregateId: 'poison', version: 2, payload: bad, headers: { tenant: 'blue' } },
      { aggregateId: 'poison', version: 3, payload: orderPlaced(random) },
      { aggregateId: 'healthy', version: 1, payload: orderPlaced(random) },
    ]);
    lab.deadLetters += 2;
    await lab.assertExactlyOnce();
    const published = (await recordsOf('poison')).map(({ headers }) => headers.ce_id);
    assert.deepEqual(published, [before]);
    const [letter, behind] = await recordsOf('poison', lab.deadLetterTopic('order'));
    assert.ok(letter !== undefined && behind !== undefined);
    const { headers, value } = letter;
    assert.partialDeepStrictEqual(behind.headers, {
      ce_id: follower,
      error_code: 'KEY_PARKED',
      blocked_by: poison,
      replayable: 'true',
    });
    assert.deepEqual(JSON.parse(value?.toString() ?? ''), bad);
    const { error_message, first_failed_at = '', failed_at = '', source_lsn = '', ...others } = headers;
    assert.deepEqual(
      { ...others, ce_time: undefined, ferry_recorded_at: undefined },
      {
        original_record: 'value',
        error_type: 'EncodeRefusal',
        error_code: 'SCHEMA_MISMATCH',
        retry_count: '0',
        max_retries: '0',
        source_topic: lab.topic('order'),
        source_seq: '2',
        replayable: 'false',
        tenant: 'blue',
        ce_id: poison,
        ce_type: 'commerce.OrderPlaced',
        ce_source: '/tests',
        ce_subject: 'poison',
        ce_specversion: '1.0',
        ce_time: undefined,
        ferry_lsn: source_lsn,
        ferry_seq: '2',
        ferry_aggregate_type: 'order',
        ferry_aggregate_version: '2',
        ferry_recorded_at: undefined,
      },
    );
    assert.match(error_message ?? '', /^\/total: /);
    assert.doesNotMatch(error_message ?? '', /not a decimal/, 'messages hold no payload values');
    assert.equal(first_failed_at, failed_at);
    assert.ok(!Number.isNaN(Date.parse(failed_at)));
    assert.deepEqual(await Promise.all([before, poison, follower, other].map((id) => lab.statusOf(id))), [
      'published',
      'dead-lettered',
      'dead-lettered',
      'published',
    ]);
  });

  test('of an unknown type, or of an aggregate type without a topic, is a dead letter with its code', async () => {
    await lab.insert([{ aggregateId: 'like', aggregateType: 'a.b', tombstone: true }]);
    await lab.assertExactlyOnce(); // its topic is there
    await lab.insert([
      { aggregateId: 'unknown-type', type: 'commerce.Unheard', payload: {} },
      { aggregateId: 'no-topic', aggregateType: 'a b/c', payload: orderPlaced(random) },
      { aggregateId: 'kept', aggregateType: `ferry.parked.${lab.config.RELAY_NAME}`, payload: orderPlaced(random) },
      { aggregateId: 'collides', aggregateType: 'a_b', tombstone: true },
      { aggregateId: 'no-avro', payloadBytes: Buffer.from('neither magic byte nor schema') },
    ]);
    lab.deadLetters += 5;
    await lab.assertExactlyOnce();
    const codeOf = async (key: string, topic: string) => (await onlyRecordOf(key, topic)).headers.error_code;
    assert.equal(await codeOf('unknown-type', lab.deadLetterTopic('order')), 'SCHEMA_UNKNOWN');
    const unrouted = `${lab.config.TOPIC_PREFIX}unrouted.dlq`;
    assert.equal(await codeOf('no-topic', unrouted), 'TOPIC_INVALID');
    assert.equal(await codeOf('kept', unrouted), 'TOPIC_INVALID');
    assert.equal(await codeOf('collides', unrouted), 'TOPIC_REFUSED');
    assert.equal(await codeOf('no-avro', lab.deadLetterTopic('order')), 'PAYLOAD_NOT_WIRE_FORMAT');
  });

  test('that would be too large is a dead letter which refers to the outbox row', async () => {
    const large = { ...orderPlaced(random), customerId: 'c'.repeat(30_000) };
    const [id] = await lab.insert([{ aggregateId: 'too-large', payload: large }]);
    lab.deadLetters += 1;
    await lab.assertExactlyOnce();
    const { headers, value } = await onlyRecordOf('too-large', lab.deadLetterTopic('order'));
    assert.equal(value, null);
    assert.equal(headers.error_code, 'EVENT_TOO_LARGE');
    assert.equal(headers.original_record, `outbox:${id}`);
    assert.equal(await lab.statusOf(id), 'dead-lettered');
  });

  test('is pending until it is published', async () => {
    assert.equal(await lab.relay.stop(), 0);
    const [id] = await lab.insert([{ aggregateId: 'pending', payload: orderPlaced(random) }]);
    assert.equal(await lab.statusOf(id), 'pending');
    await lab.stream();
    await lab.untilPublished(id);
    await lab.assertExactlyOnce();
  });
});

describe('rows older than the slot', () => {
  test('are published first, in order, dead letters included, also when the relay is killed among them', async (t) => {
    const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '100' });
    t.after(() => lab.close());
    await lab.write({ rows: 1_500, largestTransaction: 300 });
    const [poison] = await lab.insert([{ aggregateId: 'poison', payload: {} }]);
    lab.deadLetters += 1;
    for (const point of ['after-send:3', 'after-end-txn:4', 'after-commit-before-confirm:3', 'after-encode:2']) {
      lab.relay.start({ FERRY_FAIL_POINT: point });
      await lab.relay.exited();
      assert.equal(lab.relay.signal, 'SIGKILL', point);
      await lab.write({ rows: 50, largestTransaction: 20 }); // newer than the slot: behind all of them
    }
    await lab.stream();
    await lab.assertExactlyOnce();
    // its note must outlive a restart before anything newer moved the checkpoint
    await lab.relay.kill();
    await lab.stream();
    await lab.assertExactlyOnce();
    const { rows } = await lab.sql('select event_id from ferry.relay_dead_letter');
    assert.deepEqual(rows, [{ event_id: poison }]);
  });

  test('are dead letters after a restart too, while nothing newer has moved the checkpoint', async (t) => {
    const lab = await RelayLab.open(stack, { RELAY_HEARTBEAT_INTERVAL_MS: '60000' });
    t.after(() => lab.close());
    const [poison] = await lab.insert([{ aggregateId: 'poison', payload: {} }]);
    for (let start = 0; start < 2; start++) {
      await lab.stream();
      await lab.relay.kill();
    }
    const { rows } = await lab.sql('select event_id from ferry.relay_dead_letter');
    assert.deepEqual(rows, [{ event_id: poison }]);
  });
});
