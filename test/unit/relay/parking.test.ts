/**
 * Parking and releasing against a model: any history of poison, of what follows it and of releases, with the relay killed at any commits and
 * started again. In Kafka is in the end what the model says, record for record, and so is what stays parked.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { withDeadline } from '../../../src/kernel/deadline.ts';
import { ParkedKeys } from '../../../src/relay/parked-keys.ts';
import { type LostAnswer, MemoryKafka } from '../../support/memory-sink.ts';
import { anyPoisonHistory, mendedRows, type PoisonHistory, poisonEncoder } from '../../support/poison-history.ts';
import { type Choices, type Life, live } from '../../support/relay-life.ts';

const settings = {
  limits: fc.record({ maxEvents: fc.integer({ min: 1, max: 9 }), maxBytes: fc.integer({ min: 200, max: 5_000 }) }),
  bufferMaxBytes: fc.integer({ min: 200, max: 20_000 }),
  resent: fc.nat(4),
};
const crash = fc.record({
  atCommit: fc.integer({ min: 1, max: 6 }),
  answer: fc.constantFrom<LostAnswer>('applied', 'not-applied', 'left-open'),
});
const lives: fc.Arbitrary<Life[]> = fc.array(fc.record({ ...settings, crash }), { maxLength: 8 });
const lastLife: fc.Arbitrary<Life> = fc.record({ ...settings, crash: fc.constant(null) });
const choices = fc.infiniteStream(fc.nat(7));
const BOUNDS = { maxEventsPerKey: 10_000, maxEvents: 100_000 };

async function liveAll(history: PoisonHistory, all: readonly Life[], choose: Choices): Promise<MemoryKafka> {
  const kafka = new MemoryKafka();
  const setting = { encoder: poisonEncoder, control: mendedRows(history) };
  for (const life of all) {
    const one = live(kafka, history.transactions, life, choose, setting);
    if (await withDeadline('a life of the relay', 2_000, one)) break;
  }
  return kafka;
}

/** As the model tells it. */
function outcomeOf(kafka: MemoryKafka): string[] {
  return kafka.events.map(({ topic, headers }) => {
    const number = Number.parseInt(headers.ce_id?.slice(-12) ?? '', 16);
    if (!topic.endsWith('.dlq')) return `published ${number}`;
    return headers.ferry_release_id === undefined ? `dead ${number}` : `dead again ${number}`;
  });
}

async function parkedIn(kafka: MemoryKafka): Promise<Map<string, number[]>> {
  const sink = await kafka.open('ferry.checkpoint.main')({ name: 'main', transactionalId: 'reader' });
  const parked = await ParkedKeys.load(sink.parkedTopic, BOUNDS, sink.readParked(), () => 't.shop.order');
  const numbers = (ids: ReadonlyArray<{ eventId: string }>) =>
    ids.map(({ eventId }) => Number.parseInt(eventId.slice(-12), 16));
  return new Map([...parked.keys()].map(({ key, events }) => [key, numbers(events)]));
}

describe('whatever is poison, released, given up, and wherever the relay was killed', () => {
  test('every event is in Kafka as the model says, in that order, and the rest is still parked', async () => {
    await fc.assert(
      fc.asyncProperty(anyPoisonHistory, lives, lastLife, choices, async (history, crashing, last, choose) => {
        const kafka = await liveAll(history, [...crashing, last], choose);
        assert.deepEqual(outcomeOf(kafka), history.outcome);
        assert.deepEqual(await parkedIn(kafka), history.parked);
      }),
      { numRuns: 400 },
    );
  });
});
