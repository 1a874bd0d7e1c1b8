/**
 * The relay's core against a model: any history of transactions, killed at any commits, with the commit applied, not applied or left open,
 * and started again with other limits from wherever the slot may stand. What is in Kafka in the end is the history, row for row.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { withDeadline } from '../../../src/kernel/deadline.ts';
import { type LostAnswer, MemoryKafka } from '../../support/memory-sink.ts';
import { type Choices, type Life, live } from '../../support/relay-life.ts';
import { anyHistory, expectedOf, placesOf, type WalTransaction } from '../../support/wal-history.ts';

const settings = {
  limits: fc.record({ maxEvents: fc.integer({ min: 1, max: 9 }), maxBytes: fc.integer({ min: 200, max: 5_000 }) }),
  bufferMaxBytes: fc.integer({ min: 200, max: 20_000 }),
  resent: fc.nat(4),
};
const crash = fc.record({
  atCommit: fc.integer({ min: 1, max: 6 }),
  answer: fc.constantFrom<LostAnswer>('applied', 'not-applied', 'left-open'),
});
const lives: fc.Arbitrary<Life[]> = fc.array(fc.record({ ...settings, crash }), { maxLength: 6 });
const lastLife: fc.Arbitrary<Life> = fc.record({ ...settings, crash: fc.constant(null) });
const choices = fc.infiniteStream(fc.nat(7));

async function liveAll(history: WalTransaction[], all: readonly Life[], choose: Choices): Promise<MemoryKafka> {
  const kafka = new MemoryKafka();
  for (const life of all) {
    // a life takes milliseconds: one that hangs becomes the counterexample, and shrinking it must not take for ever
    if (await withDeadline('a life of the relay', 2_000, live(kafka, history, life, choose))) break;
  }
  return kafka;
}

test('whatever was committed is in Kafka once and in order, wherever the relay was killed', async () => {
  await fc.assert(
    fc.asyncProperty(anyHistory, lives, lastLife, choices, async (history, crashing, last, choose) => {
      const kafka = await liveAll(history, [...crashing, last], choose);
      assert.deepEqual(placesOf(kafka.events), expectedOf(history));
    }),
    { numRuns: 300 },
  );
});

test('and within what the limits allow in one Kafka transaction', async () => {
  await fc.assert(
    fc.asyncProperty(anyHistory, lastLife, choices, async (history, life, choose) => {
      const kafka = await liveAll(history, [life], choose);
      for (const size of kafka.committedSizes) assert.ok(size <= life.limits.maxEvents, `${size} records in one`);
    }),
    { numRuns: 100 },
  );
});
