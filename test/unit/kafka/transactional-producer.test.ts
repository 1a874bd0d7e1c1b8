/**
 * The transactional producer against a Kafka that does as the test says: its calls come in the protocol's order, one error alone is waited
 * out, and every other one ends it for good.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { OutgoingRecord } from '../../../src/events/record.ts';
import { TransactionalProducer } from '../../../src/kafka/transactional-producer.ts';
import { decodeRecordBatch, textOf } from '../../support/record-batches.ts';
import { kafkaError } from '../../support/scripted-cluster.ts';
import { ScriptedKafka } from '../../support/scripted-kafka.ts';

/** What a broker takes by default (message.max.bytes). */
const MAX_MESSAGE_BYTES = 1_048_588;

const OPTIONS = { transactionalId: 'ferry.1.db.main', transactionTimeoutMs: 12_000, prove: async () => {} };

function record(topic: string, partition: number, value: string | Buffer): OutgoingRecord {
  return { topic, partition, key: 'k', value: Buffer.from(value), headers: {} };
}

const RECORDS = [record('a', 0, '1'), record('b', 1, '2'), record('a', 1, '3'), record('a', 0, '4')];

async function open(kafka: ScriptedKafka): Promise<TransactionalProducer> {
  const producer = await TransactionalProducer.open(kafka.cluster, OPTIONS);
  kafka.calls.length = 0;
  return producer;
}

describe('open', () => {
  test('proves that it may fence just before each InitProducerId', async () => {
    const kafka = new ScriptedKafka({});
    kafka.failures.initProducerId = [kafkaError('CONCURRENT_TRANSACTIONS'), kafkaError('NOT_COORDINATOR_FOR_GROUP')];
    const prove = async () => {
      kafka.calls.push('prove');
    };
    await TransactionalProducer.open(kafka.cluster, { ...OPTIONS, prove });
    const attempt = ['findCoordinator', 'prove', 'initProducerId'];
    assert.deepEqual(kafka.calls, [...attempt, ...attempt, ...attempt]);
  });

  test('fences nobody when the proof fails', async () => {
    const kafka = new ScriptedKafka({});
    const prove = () => Promise.reject(new Error('the slot is lost'));
    await assert.rejects(TransactionalProducer.open(kafka.cluster, { ...OPTIONS, prove }), /slot is lost/);
    assert.deepEqual(kafka.calls, ['findCoordinator']);
  });

  test('gives up at once where waiting does not help', async () => {
    const kafka = new ScriptedKafka({});
    kafka.failures.initProducerId = [kafkaError('TRANSACTIONAL_ID_AUTHORIZATION_FAILED')];
    await assert.rejects(TransactionalProducer.open(kafka.cluster, OPTIONS), {
      type: 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
    });
    assert.deepEqual(kafka.calls, ['findCoordinator', 'initProducerId']);
  });
});

describe('commit', () => {
  test('adds all partitions, produces to each leader, tells that it sent, then ends the transaction', async () => {
    const kafka = new ScriptedKafka({ a: [1, 2], b: [1, 1] });
    const producer = await open(kafka);
    await producer.commit(RECORDS, (stage) => kafka.calls.push(stage));
    assert.deepEqual(kafka.calls, [
      'addPartitions a/0 a/1 b/1',
      'produce 1: a/0 b/1',
      'produce 2: a/1',
      'sent',
      'endTxn commit',
    ]);
  });

  test('waits out CONCURRENT_TRANSACTIONS at AddPartitions, however it is wrapped, and produces once', async () => {
    const kafka = new ScriptedKafka({ a: [1] });
    const producer = await open(kafka);
    const concurrent = kafkaError('CONCURRENT_TRANSACTIONS');
    kafka.failures.addPartitions = [
      concurrent,
      Object.assign(new Error('wrapped by kafkajs'), { originalError: concurrent }),
      new Error('wrapped', { cause: concurrent }),
    ];
    await producer.commit([record('a', 0, '1')]);
    const asked = 'addPartitions a/0';
    assert.deepEqual(kafka.calls, [asked, asked, asked, asked, 'produce 1: a/0', 'endTxn commit']);
  });

  const failures = [
    { call: 'addPartitions', type: 'INVALID_PRODUCER_EPOCH', calls: 1 },
    { call: 'addPartitions', type: 'NOT_COORDINATOR_FOR_GROUP', calls: 1 },
    { call: 'produce', type: 'CONCURRENT_TRANSACTIONS', calls: 2 },
    { call: 'produce', type: 'NOT_LEADER_FOR_PARTITION', calls: 2 },
    { call: 'endTxn', type: 'CONCURRENT_TRANSACTIONS', calls: 3 },
    { call: 'endTxn', type: 'NETWORK_EXCEPTION', calls: 3 },
  ] as const;
  for (const { call, type, calls } of failures) {
    test(`${type} at ${call} is asked nothing more and breaks the producer for good`, async () => {
      const kafka = new ScriptedKafka({ a: [1] });
      const producer = await open(kafka);
      kafka.failures[call] = [kafkaError(type)];
      await assert.rejects(producer.commit([record('a', 0, '1')]), { type });
      assert.equal(kafka.calls.length, calls, kafka.calls.join(', '));
      await assert.rejects(producer.commit([record('a', 0, '1')]), /must be replaced/);
      assert.equal(kafka.calls.length, calls, 'something was sent after the failure');
    });
  }

  test('a failure between sending and EndTxn breaks it too', async () => {
    const kafka = new ScriptedKafka({ a: [1] });
    const producer = await open(kafka);
    const lostAnswer = () => {
      throw new Error('fail point');
    };
    await assert.rejects(producer.commit([record('a', 0, '1')], lostAnswer), /fail point/);
    assert.ok(!kafka.calls.includes('endTxn commit'));
    await assert.rejects(producer.commit([record('a', 0, '1')]), /must be replaced/);
  });

  test('a second commit while one is in flight is refused', async () => {
    const producer = await open(new ScriptedKafka({ a: [1] }));
    const first = producer.commit([record('a', 0, '1')]);
    await assert.rejects(producer.commit([record('a', 0, '2')]));
    await first;
  });

  test('a partition that the topic does not have is an error before anything is produced', async () => {
    const kafka = new ScriptedKafka({ a: [1] });
    const producer = await open(kafka);
    await assert.rejects(producer.commit([record('a', 1, '1')]), /topic a has no partition 1/);
    assert.deepEqual(kafka.calls, ['addPartitions a/1']);
  });

  test('no records make no transaction, and do no harm', async () => {
    const kafka = new ScriptedKafka({ a: [1] });
    const producer = await open(kafka);
    await assert.rejects(producer.commit([]), RangeError);
    assert.deepEqual(kafka.calls, []);
    await producer.commit([record('a', 0, '1')]);
  });
});

// --- what arrives, for any transactions

const LEADERS = { a: [1, 2, 1], b: [2] };
const anyRecord = fc.record({
  place: fc.constantFrom(['a', 0], ['a', 1], ['a', 2], ['b', 0]) as fc.Arbitrary<[string, number]>,
  size: fc.oneof({ weight: 3, arbitrary: fc.constant(10) }, fc.constantFrom(200_000, 474_900, 900_000, 1_000_000)),
});
const transactions = fc.array(fc.array(anyRecord, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 3 });

test('each partition gets its records once, in order, in batches that a broker takes, with sequences that join', async () => {
  await fc.assert(
    fc.asyncProperty(transactions, async (shapes) => {
      const kafka = new ScriptedKafka(LEADERS);
      const producer = await open(kafka);
      const wanted: OutgoingRecord[] = [];
      for (const shape of shapes) {
        const records = shape.map(({ place: [topic, partition], size }, i) =>
          record(topic, partition, `${wanted.length + i}`.padEnd(size)),
        );
        wanted.push(...records);
        await producer.commit(records);
      }
      assert.equal(kafka.calls.filter((call) => call === 'endTxn commit').length, shapes.length);
      await assertArrived(kafka, wanted);
    }),
    { numRuns: 40 },
  );
});

async function assertArrived(kafka: ScriptedKafka, wanted: readonly OutgoingRecord[]): Promise<void> {
  const lanes = Map.groupBy(kafka.batches, ({ topic, partition }) => `${topic}/${partition}`);
  const wantedLanes = Map.groupBy(wanted, ({ topic, partition }) => `${topic}/${partition}`);
  assert.deepEqual([...lanes.keys()].sort(), [...wantedLanes.keys()].sort());
  for (const [lane, batches] of lanes) {
    const values: Array<string | null> = [];
    for (const batch of batches) {
      assert.ok(batch.bytes.length <= MAX_MESSAGE_BYTES, `a batch of ${batch.bytes.length} bytes`);
      const { producerId, producerEpoch, firstSequence, records } = await decodeRecordBatch(batch.bytes);
      assert.deepEqual([producerId, producerEpoch, firstSequence], ['4000', 7, values.length]);
      values.push(...records.map(({ value }) => textOf(value)?.trim() ?? null));
    }
    assert.deepEqual(
      values,
      wantedLanes.get(lane)?.map(({ value }) => textOf(value)?.trim()),
    );
  }
  for (const call of kafka.calls.filter((one) => one.startsWith('produce'))) {
    const named = call.split(' ').slice(2);
    assert.equal(new Set(named).size, named.length, `two batches of one partition in one request: ${call}`);
  }
}
