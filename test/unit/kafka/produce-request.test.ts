/** Produce, byte by byte after ProduceRequest.json version 7, and an answer that is believed only if it is whole and good. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeProduceRequest, type PartitionBatch, sendProduce } from '../../../src/kafka/produce-request.ts';
import { kafkaErrorType } from '../../../src/kafka/protocol.ts';
import { bytes, int16, int32, int64 } from '../../support/bytes.ts';
import { rawBroker, text } from '../../support/raw-broker.ts';

const BATCHES: readonly PartitionBatch[] = [
  { topic: 'order', partition: 3, bytes: Buffer.from('first') },
  { topic: 'käse', partition: 0, bytes: Buffer.from('second') },
  { topic: 'order', partition: 11, bytes: Buffer.from('third') },
];

test('the request names each topic once, with all its partitions', () => {
  const record = (content: string) => bytes(int32(content.length), Buffer.from(content));
  const { apiKey, apiVersion, payload } = encodeProduceRequest('ferry.1.db.main', BATCHES);
  assert.deepEqual([apiKey, apiVersion], [0, 7]);
  assert.deepEqual(
    payload,
    bytes(
      ...[text('ferry.1.db.main'), int16(-1), int32(10_000), int32(2)],
      ...[text('order'), int32(2), int32(3), record('first'), int32(11), record('third')],
      ...[text('käse'), int32(1), int32(0), record('second')],
    ),
  );
});

type Answered = Readonly<Record<string, ReadonlyArray<readonly [partition: number, code: number]>>>;

function answer(topics: Answered): Buffer {
  const parts = Object.entries(topics).map(([topic, partitions]) =>
    bytes(
      text(topic),
      int32(partitions.length),
      // base offset, log append time and log start offset are not looked at
      ...partitions.map(([partition, code]) => bytes(int32(partition), int16(code), int64(17n), int64(-1n), int64(0n))),
    ),
  );
  return bytes(int32(parts.length), ...parts, int32(0));
}

function send(topics: Answered): Promise<void> {
  const broker = rawBroker(() => answer(topics));
  return sendProduce(broker, encodeProduceRequest('t', BATCHES), BATCHES);
}

test('an answer that covers every partition without an error is believed', async () => {
  await send({ käse: [[0, 0]], order: [[11, 0], [3, 0]] }); // biome-ignore format: one row an answer
});

test('an answer that says nothing of a partition is an error', async () => {
  await assert.rejects(send({ order: [[3, 0], [11, 0]] }), /says nothing of käse\/0/); // biome-ignore format: one row an answer
  await assert.rejects(send({ order: [[3, 0]], käse: [[0, 0]] }), /says nothing of order\/11/);
  await assert.rejects(send({}), /says nothing of order\/3/);
});

test('an error of any partition is an error, and keeps its name', async () => {
  const failed = send({ order: [[3, 0], [11, 47]], käse: [[0, 0]] }); // biome-ignore format: one row an answer
  await assert.rejects(failed, (error) => kafkaErrorType(error) === 'INVALID_PRODUCER_EPOCH');
});
