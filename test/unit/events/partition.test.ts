/** Partitions as the Java client finds them: its own published vectors, and kafkajs's implementation on random keys. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Partitioners } from 'kafkajs';
import { murmur2, partitionOf } from '../../../src/events/partition.ts';

/** Source: org.apache.kafka.common.utils.UtilsTest#testMurmur2. */
const JAVA_VECTORS: ReadonlyArray<readonly [string, number]> = [
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ['abc', 479470107],
];

test('murmur2 gives what Java gives', () => {
  for (const [text, hash] of JAVA_VECTORS) assert.equal(murmur2(Buffer.from(text)), hash, text);
});

test('partitions are those of another implementation, for any key', () => {
  const partitioner = Partitioners.DefaultPartitioner();
  const key = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(key, fc.integer({ min: 1, max: 200 }), (text, count) => {
      const partitionMetadata = Array.from({ length: count }, (_, partitionId) => ({
        partitionId,
        leader: 0,
        partitionErrorCode: 0,
        replicas: [],
        isr: [],
      }));
      const message = { key: Buffer.from(text), value: null };
      assert.equal(partitionOf(text, count), partitioner({ topic: 't', partitionMetadata, message }));
    }),
  );
});
