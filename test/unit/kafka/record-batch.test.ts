/** What the hand-written encoder writes, kafkajs reads back unchanged; sizes, counts and checksum are the format's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32c } from '../../../src/kafka/crc32c.ts';
import { type BatchRecord, encodeRecordBatch, maxRecordBytes } from '../../../src/kafka/record-batch.ts';
import { decodeRecordBatch, textOf } from '../../support/record-batches.ts';

const PRODUCER = { producerId: 4_611_686_018_427_387_905n, producerEpoch: 32_767, firstSequence: 999_999_999 };
const TIMESTAMP_MS = 1_767_323_045_678;
const HEADER_BYTES = 61;

/** Short and long, ASCII and not: each has its own way through the encoder. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.constantFrom('', 'x'.repeat(47), 'x'.repeat(48), `${'x'.repeat(46)}é`, `${'x'.repeat(47)}é`, '€'.repeat(300)),
);
const record: fc.Arbitrary<BatchRecord> = fc.record({
  key: fc.option(text),
  value: fc.option(
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(Buffer.alloc(0), Buffer.alloc(63, 1), Buffer.alloc(64, 2), Buffer.alloc(100_000, 3)),
    ),
  ),
  headers: fc
    .uniqueArray(fc.tuple(text, text), { maxLength: 6, selector: ([name]) => name })
    // kafkajs collects headers in a plain object, where names such as `toString` already mean something
    .map((headers) => Object.fromEntries(headers.filter(([name]) => !(name in {})))),
});

test('kafkajs reads back any records, in order, with the producer and the sequence that were given', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 20 }), async (records) => {
      const decoded = await decodeRecordBatch(encodeRecordBatch(records, PRODUCER, TIMESTAMP_MS));
      assert.equal(decoded.producerId, String(PRODUCER.producerId));
      assert.equal(decoded.producerEpoch, PRODUCER.producerEpoch);
      assert.equal(decoded.firstSequence, PRODUCER.firstSequence);
      assert.equal(decoded.lastOffsetDelta, records.length - 1);
      assert.equal(decoded.inTransaction, true);
      assert.equal(decoded.isControlBatch, false);
      assert.deepEqual([decoded.firstTimestamp, decoded.maxTimestamp], [String(TIMESTAMP_MS), String(TIMESTAMP_MS)]);
      assert.deepEqual(
        decoded.records.map(({ key, value, headers }) => ({
          key: textOf(key),
          value,
          headers: Object.fromEntries(Object.entries(headers).map(([name, header]) => [name, header.toString()])),
        })),
        records.map(({ key, value, headers }) => ({ key, value, headers: { ...headers } })),
      );
      assert.deepEqual(
        decoded.records.map(({ offset, timestamp }) => [offset, timestamp]),
        records.map((_, i) => [String(i), String(TIMESTAMP_MS)]),
      );
    }),
  );
});

test('more records and more bytes than one-byte varints hold', async () => {
  const records = Array.from({ length: 20_000 }, (_, i) => ({
    key: `k${i}`,
    value: Buffer.from(`v${i}`),
    headers: {},
  }));
  const decoded = await decodeRecordBatch(encodeRecordBatch(records, PRODUCER, TIMESTAMP_MS));
  assert.deepEqual(
    decoded.records.map(({ offset, key, value }) => [offset, textOf(key), textOf(value)]),
    records.map(({ key, value }, i) => [String(i), key, textOf(value)]),
  );
});

test('maxRecordBytes is never below what a record takes', () => {
  fc.assert(
    fc.property(record, (one) => {
      const bytes = encodeRecordBatch([one], PRODUCER, TIMESTAMP_MS).length - HEADER_BYTES;
      assert.ok(bytes <= maxRecordBytes(one), `${bytes} > ${maxRecordBytes(one)}`);
    }),
  );
});

test('length, count and checksum stand where DefaultRecordBatch has them', () => {
  const batch = encodeRecordBatch([{ key: 'a', value: null, headers: {} }], PRODUCER, TIMESTAMP_MS);
  assert.equal(batch.readInt32BE(8), batch.length - 12);
  assert.equal(batch.readInt8(16), 2);
  assert.equal(batch.readInt32BE(57), 1);
  assert.equal(batch.readUInt32BE(17), crc32c(Buffer.from(batch.subarray(21))));
});

test('an empty batch is refused', () => {
  assert.throws(() => encodeRecordBatch([], PRODUCER, TIMESTAMP_MS), RangeError);
});
