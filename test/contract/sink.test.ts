/**
 * The Sink port: one suite, run on the Kafka in memory and on the real one, so that what the relay's unit tests learn from the fake is
 * true.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { pino } from 'pino';
import type { OutgoingRecord } from '../../src/events/record.ts';
import { createKafka, kafkaOptions } from '../../src/kafka/client.ts';
import { LogReader } from '../../src/kafka/log-reader.ts';
import { openCluster } from '../../src/kafka/protocol.ts';
import { noFailPoints } from '../../src/kernel/fail-point.ts';
import { kafkaSinkOpener } from '../../src/relay/kafka-sink.ts';
import type { OpenSink, Sink } from '../../src/relay/sink.ts';
import { MemoryKafka } from '../support/memory-sink.ts';
import { checkpoint, lsn } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const PARTITIONS = 3;

/** A Kafka that the suite can open sinks on, and change behind their back. */
interface Subject {
  opener(checkpointTopic: string): OpenSink;
  deleteTopic(topic: string): Promise<void>;
  addPartitions(topic: string, count: number): Promise<void>;
  /** Committed records of a topic by partition, in order: what a consumer under read_committed reads. */
  read(topic: string): Promise<Array<Pick<OutgoingRecord, 'partition' | 'key' | 'headers'> & { value: string | null }>>;
}

const stack = await testStack();
const kafka = kafkaOptions(stack.config, 'sink-contract', pino({ level: 'silent' }));
const cluster = await openCluster(kafka);
const admin = createKafka(kafka).admin();
await admin.connect();
const opened: Sink[] = [];
after(async () => {
  await Promise.all(opened.map((sink) => sink.close()));
  await admin.disconnect();
  await cluster.disconnect();
});

const realKafka: Subject = {
  opener: (checkpointTopic) =>
    kafkaSinkOpener({
      ...{ kafka, checkpointTopic, parkedTopic: `${checkpointTopic}.parked`, transactionTimeoutMs: 12_000 },
      ...{ maxEventBytes: 900_000, failPoint: noFailPoints },
      topics: { partitions: PARTITIONS, replicationFactor: 1 },
    }),
  async deleteTopic(topic) {
    await admin.deleteTopics({ topics: [topic] });
    await waitUntil('the topic is gone', async () => !(await admin.listTopics()).includes(topic));
  },
  async addPartitions(topic, count) {
    await admin.createPartitions({ topicPartitions: [{ topic, count }] });
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]?.partitions.length;
    await waitUntil('the partitions are there', async () => (await partitions()) === count);
  },
  async read(topic) {
    const records = await Array.fromAsync(new LogReader(cluster).readAll([topic], 10_000));
    return records.map(({ partition, key, value, headers }) => ({
      ...{ partition, headers, key: key?.toString() ?? null, value: value?.toString() ?? null },
    }));
  },
};

function memoryKafka(): Subject {
  const memory = new MemoryKafka(PARTITIONS);
  return {
    opener: (checkpointTopic) => memory.open(checkpointTopic),
    deleteTopic: async (topic) => memory.deleteTopic(topic),
    addPartitions: async (topic, count) => memory.addPartitions(topic, count),
    async read(topic) {
      const records = memory.committed.filter((record) => record.topic === topic);
      return records
        .toSorted((a, b) => a.partition - b.partition)
        .map(({ partition, key, headers, value }) => ({
          ...{ partition, key, headers, value: value?.toString() ?? null },
        }));
    },
  };
}

const proven = async () => {};
const sent = () => {};
/** Between sending and EndTxn: what is sent stays in an open transaction. */
const crash = () => {
  throw new Error('crashed before EndTxn');
};

for (const [name, kind] of Object.entries({ 'Kafka in memory': memoryKafka(), 'the real Kafka': realKafka })) {
  describe(`a sink on ${name}`, () => {
    /** Names of its own for each test, and sinks of one relay. */
    function setUp() {
      const prefix = `${stack.topicPrefix}${randomBytes(4).toString('hex')}.`;
      const checkpointTopic = `${prefix}checkpoint`;
      const opener = kind.opener(checkpointTopic);
      const open = async () => {
        const sink = await opener({ name: 'main', transactionalId: `${prefix}main` });
        opened.push(sink);
        return sink;
      };
      const fenced = async () => {
        const sink = await open();
        await sink.fence(proven);
        return sink;
      };
      return { topic: `${prefix}order`, checkpointTopic, open, fenced };
    }

    const at = (endLsn: number) => checkpoint({ endLsn: lsn(endLsn) });
    const event = (topic: string, n: number, partition = 0): OutgoingRecord => {
      return { topic, partition, key: `k${n}`, value: Buffer.from(`v${n}`), headers: { ce_id: `id-${n}` } };
    };
    const ids = (sink: Sink, topic: string) => Array.fromAsync(sink.publishedIds([topic]), ({ id }) => id);

    test('before anything was published there is no checkpoint, to peek at or to read', async () => {
      const { open } = setUp();
      const sink = await open();
      assert.equal(await sink.peek(), null);
      await sink.fence(proven);
      assert.equal(await sink.readCheckpoint(), null);
      assert.deepEqual([...sink.topics.keys()], [sink.parkedTopic]);
    });

    test('records and checkpoint are committed together, each partition’s in order, and found by the next sink', async () => {
      const { topic, fenced } = setUp();
      const sink = await fenced();
      assert.equal(sink.partitions(topic), undefined);
      assert.equal(await sink.meet(topic), PARTITIONS);
      assert.equal(sink.partitions(topic), PARTITIONS);
      let told = 0;
      const partial = { commitLsn: lsn(3_000), xid: 9, seq: 2 };
      await sink.commit([event(topic, 1), event(topic, 2, 2), event(topic, 3)], at(1_500), () => told++);
      await sink.commit([event(topic, 4)], { ...at(2_000), partial, lastEventId: 'id-4' }, sent);
      assert.equal(told, 1);
      assert.deepEqual(
        (await kind.read(topic)).map(({ partition, key, value }) => [partition, key, value]),
        [
          [0, 'k1', 'v1'],
          [0, 'k3', 'v3'],
          [0, 'k4', 'v4'],
          [2, 'k2', 'v2'],
        ],
      );
      const next = await fenced();
      const found = await next.readCheckpoint();
      assert.deepEqual(found, { ...at(2_000), partial, lastEventId: 'id-4', topics: new Map(sink.topics) });
      assert.equal(found.topics.get(topic)?.partitions, PARTITIONS);
      assert.deepEqual((await ids(next, topic)).sort(), ['id-1', 'id-2', 'id-3', 'id-4']);
    });

    test('null values, empty keys and headers arrive as they were', async () => {
      const { topic, fenced } = setUp();
      const sink = await fenced();
      await sink.meet(topic);
      const record = { topic, partition: 1, key: 'größe', value: null, headers: { ce_id: 'ü', empty: '' } };
      await sink.commit([record], at(1_500), sent);
      const { topic: _, ...read } = record;
      assert.deepEqual(await kind.read(topic), [read]);
    });

    test('a checkpoint alone is committed too', async () => {
      const { fenced } = setUp();
      await (await fenced()).commit([], at(1_500), sent);
      assert.equal((await (await fenced()).readCheckpoint())?.endLsn, lsn(1_500));
    });

    test('who has not fenced cannot commit', async () => {
      const { open } = setUp();
      await assert.rejects((await open()).commit([], at(1_500), sent), /before fence/);
    });

    test('who cannot prove that it may fence does not', async () => {
      const { open, fenced } = setUp();
      const living = await fenced();
      const stranger = await open();
      const lost = () => Promise.reject(new Error('the slot is lost'));
      await assert.rejects(stranger.fence(lost), /slot is lost/);
      await assert.rejects(stranger.commit([], at(9_000), sent));
      await living.commit([], at(1_500), sent);
    });

    test('opening and peeking fence nobody', async () => {
      const { open, fenced } = setUp();
      const living = await fenced();
      await living.commit([], at(1_500), sent);
      assert.equal((await (await open()).peek())?.endLsn, lsn(1_500));
      await living.commit([], at(2_000), sent);
    });

    test('an older sink is fenced by a newer one, and what it tries changes nothing', async () => {
      const { topic, fenced } = setUp();
      const older = await fenced();
      await older.meet(topic);
      await older.commit([event(topic, 1)], at(1_500), sent);
      const newer = await fenced();
      await assert.rejects(older.commit([event(topic, 2)], at(2_000), sent));
      await assert.rejects(older.commit([event(topic, 2)], at(2_000), sent), /must be replaced/);
      assert.equal((await newer.readCheckpoint())?.endLsn, lsn(1_500));
      await newer.commit([event(topic, 3)], at(2_500), sent);
      assert.deepEqual(await ids(newer, topic), ['id-1', 'id-3']);
    });

    test('an open transaction is invisible and not waited for by a peek; the next fence decides it', async () => {
      const { topic, open, fenced } = setUp();
      const older = await fenced();
      await older.meet(topic);
      await older.commit([event(topic, 1)], at(1_500), sent);
      await assert.rejects(older.commit([event(topic, 2)], at(2_000), crash), /crashed/);
      const newer = await open();
      assert.equal((await newer.peek())?.endLsn, lsn(1_500));
      await newer.fence(proven);
      assert.equal((await newer.readCheckpoint())?.endLsn, lsn(1_500));
      await newer.meet(topic);
      await newer.commit([event(topic, 2)], at(2_000), sent);
      assert.deepEqual(await ids(newer, topic), ['id-1', 'id-2']);
    });

    test('the checkpoint is found behind hundreds of records that were aborted', async () => {
      const { checkpointTopic, fenced } = setUp();
      const older = await fenced();
      await older.commit([], at(1_500), sent);
      const aborted = Array.from({ length: 350 }, (_, n) => event(checkpointTopic, n));
      await assert.rejects(older.commit(aborted, at(2_000), crash));
      const newer = await fenced();
      assert.equal((await newer.readCheckpoint())?.endLsn, lsn(1_500));
      assert.equal((await newer.peek())?.endLsn, lsn(1_500));
    });

    test('the topics of a checkpoint are taken over as long as they are what they were', async () => {
      const { topic, fenced } = setUp();
      const sink = await fenced();
      await sink.meet(topic);
      await sink.commit([event(topic, 1)], at(1_500), sent);
      const next = await fenced();
      await next.pin((await next.readCheckpoint())?.topics ?? new Map());
      assert.equal(next.partitions(topic), PARTITIONS);
      await next.commit([], at(2_000), sent);
      assert.deepEqual((await (await fenced()).readCheckpoint())?.topics, sink.topics);
    });

    const changes = {
      'that was deleted': async (topic: string) => kind.deleteTopic(topic),
      'that was deleted and made anew': async (topic: string, other: Sink) => {
        await kind.deleteTopic(topic);
        await other.meet(topic);
      },
      'that has more partitions': async (topic: string) => kind.addPartitions(topic, PARTITIONS + 1),
    };
    for (const [what, change] of Object.entries(changes)) {
      test(`a topic ${what} is refused`, async () => {
        const { topic, fenced } = setUp();
        const sink = await fenced();
        await sink.meet(topic);
        await sink.commit([event(topic, 1)], at(1_500), sent);
        await change(topic, await fenced());
        const next = await fenced();
        const { topics } = (await next.readCheckpoint()) ?? at(0);
        await assert.rejects(next.pin(topics), { code: 'RELAY_PARTITIONS_CHANGED' });
      });
    }

    test('topics that do not exist hold no events', async () => {
      const { topic, fenced } = setUp();
      assert.deepEqual(await ids(await fenced(), topic), []);
    });

    test('closing twice is safe, and a closed sink commits nothing', async () => {
      const { fenced } = setUp();
      const sink = await fenced();
      await sink.close();
      await sink.close();
      await assert.rejects(sink.commit([], at(1_500), sent));
      assert.equal(await (await fenced()).readCheckpoint(), null);
    });
  });
}
