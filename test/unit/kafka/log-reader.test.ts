/** What read_committed means: aborted records are left out wherever a fetch begins, and no read is short without an error. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { committed, LogReader, type LogRecord, toLogRecord } from '../../../src/kafka/log-reader.ts';
import { DeadlineError } from '../../../src/kernel/deadline.ts';
import { kafkaError, scriptedBroker, scriptedCluster } from '../../support/scripted-cluster.ts';
import { TransactionLog } from '../../support/transaction-log.ts';

function offsets(log: TransactionLog, from: bigint): bigint[] {
  return committed(log.fetch(from), from).map(({ offset }) => BigInt(offset));
}

describe('committed', () => {
  test('two aborted transactions interleaved, and a fetch that starts inside both', () => {
    const log = new TransactionLog().write('1').write('2').write('1').write('2').abort('1').write('3').abort('2');
    log.commit('3').writePlain();
    assert.deepEqual(offsets(log, 0n), [5n, 8n]);
    assert.deepEqual(offsets(log, 3n), [5n, 8n]);
  });

  test('a producer that aborts and then commits loses only what it aborted', () => {
    const log = new TransactionLog().write('1', 2).abort('1').write('1', 2).commit('1');
    for (const from of [0n, 1n, 2n, 3n]) assert.deepEqual(offsets(log, from), [3n, 4n]);
    assert.deepEqual(offsets(log, 4n), [4n]);
  });

  test('a batch is handed out from the wanted offset on', () => {
    const log = new TransactionLog().write('1', 5).commit('1');
    assert.deepEqual(offsets(log, 3n), [3n, 4n]);
  });

  test('the list of aborted transactions may come in any order, or be null', () => {
    const log = new TransactionLog().write('1').write('2').abort('2').write('3').abort('1').commit('3');
    const { messages, abortedTransactions } = log.fetch(0n);
    const reversed = { messages, abortedTransactions: [...(abortedTransactions ?? [])].reverse() };
    assert.deepEqual(committed(reversed, 0n), committed({ messages, abortedTransactions }, 0n));
    const plain = new TransactionLog().writePlain(2).fetch(0n);
    assert.equal(committed({ ...plain, abortedTransactions: null }, 0n).length, 2);
  });
});

// --- any log, any fetch size, any beginning

type Step = {
  readonly producer: string;
  readonly what: 'write' | 'commit' | 'abort' | 'plain';
  readonly records: number;
};

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    producer: fc.constantFrom('1', '2', '3'),
    what: fc.constantFrom('write', 'write', 'commit', 'abort', 'plain'),
    records: fc.integer({ min: 1, max: 3 }),
  }),
  { maxLength: 40 },
);

function build(taken: readonly Step[]): TransactionLog {
  const log = new TransactionLog();
  for (const { producer, what, records } of taken) {
    if (what === 'plain') log.writePlain(records);
    else if (what === 'write') log.write(producer, records);
    else if (log.openProducers.includes(producer)) log[what](producer);
  }
  return log;
}

function readerOf(fetch: (from: bigint) => ReturnType<TransactionLog['fetch']>): LogReader {
  const broker = scriptedBroker({
    fetch: async ({ isolationLevel, topics }) => {
      assert.equal(isolationLevel, 1);
      const from = BigInt(topics[0]?.partitions[0]?.fetchOffset ?? -1);
      return { responses: [{ topicName: 't', partitions: [fetch(from)] }] };
    },
  });
  return new LogReader(
    scriptedCluster({
      findTopicPartitionMetadata: () => [{ partitionId: 0, leader: 1 }],
      findBroker: async () => broker,
    }),
  );
}

async function readAll(reader: LogReader, from: bigint, to: bigint): Promise<bigint[]> {
  const read: LogRecord[] = [];
  for await (const record of reader.read({ topic: 't', partition: 0, from, to }, 0)) read.push(record);
  return read.map(({ offset }) => offset);
}

describe('read', () => {
  test('gives exactly the committed records of any range of any log, by fetches of any size', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 5 }), async (taken, a, b, maxBatches) => {
        const log = build(taken);
        for (const producer of log.openProducers) log.abort(producer);
        const from = BigInt(a) % (log.end + 1n);
        const to = from + (BigInt(b) % (log.end - from + 1n));
        const read = await readAll(
          readerOf((at) => log.fetch(at, maxBatches)),
          from,
          to,
        );
        assert.deepEqual(
          read,
          log.committed.filter((offset) => offset >= from && offset < to),
        );
      }),
    );
  });

  test('waits for a transaction that is still open, and goes on when it ends', async () => {
    const log = new TransactionLog().writePlain().write('1').writePlain();
    const to = log.end;
    let fetches = 0;
    const reader = readerOf((from) => {
      if (++fetches === 3) log.commit('1');
      return log.fetch(from);
    });
    const read: bigint[] = [];
    for await (const { offset } of reader.read({ topic: 't', partition: 0, from: 0n, to }, 60_000)) read.push(offset);
    assert.deepEqual(read, [0n, 1n, 2n]);
  });

  test('a transaction that never ends is an error, not a short read', async () => {
    const log = new TransactionLog().writePlain().write('1').writePlain();
    await assert.rejects(
      readAll(
        readerOf((from) => log.fetch(from)),
        0n,
        log.end,
      ),
      DeadlineError,
    );
  });

  test('offsets that compaction removed from the end of a batch are passed', async () => {
    const log = new TransactionLog().writePlain(3).writePlain();
    const reader = readerOf((from) => {
      const fetched = log.fetch(from, 1);
      return { ...fetched, messages: fetched.messages.filter(({ offset }) => offset !== '1' && offset !== '2') };
    });
    assert.deepEqual(await readAll(reader, 0n, log.end), [0n, 3n]);
  });
});

describe('firstRecord', () => {
  test('is the first committed record of any range of any log, by fetches of any size; its end if there is none', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 5 }), async (taken, a, b, maxBatches) => {
        const log = build(taken);
        for (const producer of log.openProducers) log.commit(producer);
        const from = BigInt(a) % (log.end + 1n);
        const to = from + (BigInt(b) % (log.end - from + 1n));
        const reader = readerOf((at) => log.fetch(at, maxBatches));
        const expected = log.committed.find((offset) => offset >= from && offset < to) ?? to;
        assert.equal(await reader.firstRecord({ topic: 't', partition: 0, from, to }), expected);
      }),
    );
  });

  test('is not known while the transaction that it may belong to is open', async () => {
    const log = new TransactionLog().write('1').commit('1').write('2');
    const first = (from: bigint) =>
      readerOf((at) => log.fetch(at)).firstRecord({ topic: 't', partition: 0, from, to: log.end });
    assert.deepEqual([await first(0n), await first(1n), await first(2n)], [0n, null, null]);
    log.abort('2');
    assert.deepEqual([await first(0n), await first(1n), await first(2n)], [0n, log.end, log.end]);
  });
});

describe('ranges', () => {
  function readerAnswering(partitions: readonly number[]): LogReader {
    const broker = scriptedBroker({
      listOffsets: async ({ isolationLevel, topics }) => {
        const latest = topics[0]?.partitions[0]?.timestamp === -1;
        const offset = latest ? (isolationLevel === 0 ? '9' : '7') : '2';
        return { responses: [{ topic: 't', partitions: partitions.map((partition) => ({ partition, offset })) }] };
      },
    });
    return new LogReader(
      scriptedCluster({
        addMultipleTargetTopics: async () => {},
        findTopicPartitionMetadata: () => [1, 0].map((partitionId) => ({ partitionId, leader: 1 })),
        findBroker: async () => broker,
      }),
    );
  }

  test('reach to the high watermark, or to where everything is decided', async () => {
    const reader = readerAnswering([0, 1]);
    const range = { topic: 't', from: 2n };
    assert.deepEqual(await reader.ranges('t'), [
      { ...range, partition: 0, to: 9n },
      { ...range, partition: 1, to: 9n },
    ]);
    assert.deepEqual(
      (await reader.ranges('t', 'last-stable')).map(({ to }) => to),
      [7n, 7n],
    );
  });

  test('an answer without one of the partitions is an error, not an empty log', async () => {
    await assert.rejects(readerAnswering([0]).ranges('t'), /says nothing of t\/1/);
  });
});

describe('a leader that moves', () => {
  /** Broker 1 leads no more; that broker 2 does is known only by the `refreshesNeeded`th fresh metadata. */
  function movingReader({ refreshesNeeded = 1, error = kafkaError('NOT_LEADER_FOR_PARTITION') } = {}) {
    let refreshes = 0;
    const log = new TransactionLog().writePlain(2);
    const former = scriptedBroker({
      fetch: () => Promise.reject(error),
      listOffsets: () => Promise.reject(error),
    });
    const leader = scriptedBroker({
      fetch: async () => ({ responses: [{ topicName: 't', partitions: [log.fetch(0n)] }] }),
      listOffsets: async () => ({ responses: [{ topic: 't', partitions: [{ partition: 0, offset: '2' }] }] }),
    });
    const reader = new LogReader(
      scriptedCluster({
        addMultipleTargetTopics: async () => {},
        findTopicPartitionMetadata: () => [{ partitionId: 0, leader: refreshes < refreshesNeeded ? 1 : 2 }],
        findBroker: async ({ nodeId }) => (nodeId === 1 ? former : leader),
        refreshMetadata: async () => {
          refreshes++;
          if (refreshes < refreshesNeeded) throw kafkaError('LEADER_NOT_AVAILABLE');
        },
      }),
    );
    return { reader, refreshes: () => refreshes };
  }

  test('is followed, for offsets and for records', async () => {
    const range = { topic: 't', partition: 0, from: 2n, to: 2n };
    assert.deepEqual(await movingReader().reader.ranges('t'), [range]);
    assert.equal(await movingReader({ refreshesNeeded: 3 }).reader.offsetSince('t', 0, 17), 2n);
    assert.deepEqual(await readAll(movingReader().reader, 0n, 2n), [0n, 1n]);
  });

  test('is not taken for another error, which is told at once', async () => {
    const { reader, refreshes } = movingReader({ error: kafkaError('TOPIC_AUTHORIZATION_FAILED') });
    await assert.rejects(reader.ranges('t'), { type: 'TOPIC_AUTHORIZATION_FAILED' });
    await assert.rejects(readAll(reader, 0n, 2n), { type: 'TOPIC_AUTHORIZATION_FAILED' });
    assert.equal(refreshes(), 0);
  });
});

test('a header without a value, which Kafka allows, is left out', () => {
  const message = { offset: '7', timestamp: '12', key: null, value: null };
  assert.deepEqual(toLogRecord('t', 3, { ...message, headers: { none: null, last: ['a', null] } }).headers, {});
});

test('of a header that stands several times the last counts', () => {
  const message = { offset: '5', timestamp: '17', key: Buffer.from('k'), value: null };
  const headers = { one: Buffer.from('1'), many: [Buffer.from('a'), 'b'], none: undefined };
  assert.deepEqual(toLogRecord('t', 3, { ...message, headers }), {
    topic: 't',
    partition: 3,
    offset: 5n,
    timestampMs: 17,
    key: Buffer.from('k'),
    value: null,
    headers: { one: '1', many: 'b' },
  });
});
