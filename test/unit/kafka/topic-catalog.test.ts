/** What a topic is, read out of metadata bytes built by hand after MetadataResponse.json version 10. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { TopicCatalog } from '../../../src/kafka/topic-catalog.ts';
import { bytes, int16, int32 } from '../../support/bytes.ts';
import { rawBroker, type SentRequest } from '../../support/raw-broker.ts';
import { scriptedCluster } from '../../support/scripted-cluster.ts';

const NO_TAGS = Buffer.from([0]);
const TOPIC_ID = '00112233445566778899aabbccddeeff';

/** Compact arrays and strings carry their length plus one, as an unsigned varint. */
function varint(value: number): Buffer {
  return value < 128 ? Buffer.from([value]) : Buffer.from([(value & 0x7f) | 0x80, value >> 7]);
}

function compactText(value: string | null): Buffer {
  return value === null ? varint(0) : bytes(varint(Buffer.byteLength(value) + 1), Buffer.from(value));
}

function compactArray(items: readonly Buffer[]): Buffer {
  return bytes(varint(items.length + 1), ...items);
}

/** Bits of Kafka's AclOperation by code: READ is 3, WRITE 4, DESCRIBE 8. */
const MAY_ALL = 0b1_0001_1000;
const MAY_READ = 0b1_0000_1000;
const NOT_TOLD = -(2 ** 31);

function metadata(topic: string, errorCode: number, partitionCount: number, topics = 1, operations = MAY_ALL): Buffer {
  const broker = (id: number) =>
    bytes(int32(id), compactText('kafka.local'), int32(9092), compactText('rack'), NO_TAGS);
  const nodes = compactArray([int32(1)]);
  const partition = (id: number) =>
    bytes(int16(0), int32(id), int32(1), int32(0), nodes, nodes, compactArray([]), NO_TAGS);
  const partitions = compactArray(Array.from({ length: partitionCount }, (_, id) => partition(id)));
  const described = bytes(
    ...[int16(errorCode), compactText(topic), Buffer.from(TOPIC_ID, 'hex'), Buffer.from([0]), partitions],
    ...[int32(operations), NO_TAGS],
  );
  const headerTags = Buffer.from([1, 9, 2, 0xaa, 0xbb]); // one tagged field that nobody asked for
  return bytes(
    ...[headerTags, int32(0), compactArray([broker(1), broker(2)]), compactText('cluster'), int32(1)],
    ...[compactArray(Array.from({ length: topics }, () => described)), int32(0), NO_TAGS],
  );
}

function catalogAnswering(answer: (request: SentRequest) => Buffer): TopicCatalog {
  const kafka = { brokers: [], tls: false, clientId: 'test', logger: pino({ level: 'silent' }) };
  const cluster = scriptedCluster({ findControllerBroker: async () => rawBroker(answer) });
  return new TopicCatalog(kafka, cluster, { partitions: 6, replicationFactor: -1 });
}

for (const partitionCount of [1, 6, 200]) {
  test(`a topic of ${partitionCount} partitions, by its id`, async () => {
    const catalog = catalogAnswering(() => metadata('commerce.order', 0, partitionCount));
    assert.equal(catalog.known('commerce.order'), undefined);
    const facts = { topic: 'commerce.order', topicId: TOPIC_ID, partitionCount, writable: true };
    assert.deepEqual(await catalog.lookUp('commerce.order'), facts);
    assert.deepEqual(catalog.known('commerce.order'), facts);
    assert.deepEqual(await catalog.ensure('commerce.order'), facts);
  });
}

test('the question: one topic, by name, what we may do with it, without creating it', async () => {
  const sent: SentRequest[] = [];
  const name = 'n'.repeat(200); // its length takes two bytes
  await catalogAnswering((request) => {
    sent.push(request);
    return metadata(name, 0, 1);
  }).lookUp(name);
  const payload = bytes(
    NO_TAGS,
    varint(2),
    Buffer.alloc(16),
    compactText(name),
    NO_TAGS,
    Buffer.from([0, 0, 1]),
    NO_TAGS,
  );
  assert.deepEqual(sent, [{ apiKey: 3, apiVersion: 10, payload }]);
});

test('a topic that does not exist is null and stays unknown', async () => {
  const catalog = catalogAnswering(() => metadata('t', 3, 0));
  assert.equal(await catalog.lookUp('t'), null);
  assert.equal(catalog.known('t'), undefined);
});

test('any other answer is an error, never a topic', async () => {
  await assert.rejects(catalogAnswering(() => metadata('t', 5, 0)).lookUp('t'), { code: 'PART_UNREACHABLE' });
  for (const refusal of [17, 29]) {
    await assert.rejects(catalogAnswering(() => metadata('t', refusal, 0)).lookUp('t'), { code: 'TOPIC_REFUSED' });
  }
  await assert.rejects(catalogAnswering(() => metadata('t', 0, 1, 2)).lookUp('t'), /not one topic/);
  await assert.rejects(catalogAnswering(() => metadata('t', 0, 1).subarray(0, 30)).lookUp('t'));
});

test('a topic that we may read and not write is refused before anything is written, and may be looked at', async () => {
  const readable = catalogAnswering(() => metadata('t', 0, 6, 1, MAY_READ));
  assert.equal((await readable.lookUp('t'))?.writable, false);
  await assert.rejects(readable.ensureEventTopic('t', 1_000), { code: 'TOPIC_REFUSED' });
  const silent = catalogAnswering(() => metadata('t', 0, 6, 1, NOT_TOLD));
  assert.equal((await silent.lookUp('t'))?.writable, true, 'a broker that does not tell refuses nothing');
});
