/** The list of what waits: what is written of it is read back the same, whatever keys hold; its bounds; and topics that change. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { OutgoingRecord } from '../../../src/events/record.ts';
import { ParkedKeys, type ParkedRecord } from '../../../src/relay/parked-keys.ts';
import { eventId, lsn } from '../../support/relay-fixtures.ts';

const BOUNDS = { maxEventsPerKey: 5, maxEvents: 12 };
const WIDE = { maxEventsPerKey: 1_000, maxEvents: 10_000 };

const event = (n: number, aggregateType = 'order') => ({
  ...{ eventId: eventId(n), aggregateType, code: 'SCHEMA_MISMATCH', blockedBy: n % 2 === 0 ? null : eventId(n - 1) },
  position: { commitLsn: lsn(n * 1_000_000_007), seq: n },
});

/** As they come out of a compacted topic: older ones of a key may be gone, and its tombstone once all others are. */
async function* read(
  records: readonly OutgoingRecord[],
  keeps: (index: number) => boolean,
): AsyncGenerator<ParkedRecord> {
  const newest = new Map(records.map(({ key }, index) => [key, index]));
  const isCleaned = new Map([...newest].map(([key, index]) => [key, records[index]?.value === null && !keeps(index)]));
  for (const [index, { key, value }] of records.entries()) {
    if (isCleaned.get(key) === true || (newest.get(key) !== index && !keeps(index))) continue;
    yield { key: Buffer.from(key ?? ''), value };
  }
}

const load = (records: AsyncIterable<ParkedRecord>, topicOf = (type: string) => type, bounds = WIDE) =>
  ParkedKeys.load('parked', bounds, records, topicOf);

const listOf = (parked: ParkedKeys) => [...parked.keys()].sort((a, b) => (a.topic + a.key < b.topic + b.key ? -1 : 1));

const place = fc.record({
  topic: fc.constantFrom('order', 'customer'),
  key: fc.string({ unit: 'binary', maxLength: 3 }),
});
const step = fc.record({
  what: fc.constantFrom('park' as const, 'remove' as const, 'refuse' as const),
  place: fc.nat(4),
});

describe('parked keys', () => {
  test('are read back as they were left, at any moment and however the topic was compacted', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(place, { minLength: 5, maxLength: 5 }),
        fc.array(step, { maxLength: 60 }),
        fc.infiniteStream(fc.boolean()),
        async (places, steps, keeps) => {
          const parked = new ParkedKeys('parked', WIDE);
          const records: OutgoingRecord[] = [];
          for (const [n, { what, place: at }] of steps.entries()) {
            const { topic, key } = places[at] ?? { topic: '', key: '' };
            const head = parked.blocker(topic, key);
            if (what === 'park') records.push(parked.park(topic, key, event(n, topic)).record);
            else if (head !== null && what === 'remove') records.push(parked.remove(topic, key, head.eventId));
            else if (head !== null) records.push(parked.refuse(topic, key, 'EVENT_TOO_LARGE'));
          }
          const again = await load(read(records, () => keeps.next().value === true));
          assert.deepEqual(listOf(again), listOf(parked));
          assert.deepEqual(
            [again.keyCount, again.eventCount, again.empty],
            [parked.keyCount, parked.eventCount, parked.empty],
          );
        },
      ),
    );
  });

  test('are free with their last event, and begin at one again', () => {
    const parked = new ParkedKeys('parked', BOUNDS);
    assert.deepEqual(
      [1, 2].map((n) => parked.park('t', 'k', event(n)).ordinal),
      [1, 2],
    );
    assert.throws(() => parked.remove('t', 'k', eventId(2)), /is not what its key waits behind/);
    assert.equal(parked.remove('t', 'k', eventId(1)).value, null);
    assert.equal(parked.blocker('t', 'k')?.eventId, eventId(2));
    parked.remove('t', 'k', eventId(2));
    assert.equal(parked.find('t', 'k'), undefined);
    assert.equal(parked.empty, true);
    assert.equal(parked.park('t', 'k', event(3)).ordinal, 1);
  });

  test('hold so many events of one key, and so many of all; what is released makes room', () => {
    const parked = new ParkedKeys('parked', BOUNDS);
    for (let n = 1; n <= 5; n++) parked.park('t', 'k', event(n));
    assert.throws(() => parked.park('t', 'k', event(6)), { code: 'RELAY_PARKED_FULL' });
    for (let n = 1; n <= 7; n++) parked.park('t', `k${n}`, event(n));
    assert.throws(() => parked.park('t', 'new', event(8)), { code: 'RELAY_PARKED_FULL' });
    parked.remove('t', 'k', eventId(1));
    assert.equal(parked.park('t', 'k', event(6)).ordinal, 6);
    assert.equal(parked.eventCount, 12);
  });

  test('more of them than the bounds now allow can still be read', async () => {
    const before = new ParkedKeys('parked', WIDE);
    const records = Array.from({ length: 50 }, (_, n) => before.park('t', 'k', event(n)).record);
    assert.equal(
      (
        await load(
          read(records, () => false),
          undefined,
          BOUNDS,
        )
      ).eventCount,
      50,
    );
  });

  test('are held where their events went and where they go now, under one list', async () => {
    const before = new ParkedKeys('parked', WIDE);
    const records = [1, 2].map((n) => before.park('unrouted', 'k', event(n, 'not a topic')).record);
    const parked = await load(
      read(records, () => true),
      () => 'shop.order',
    );
    assert.equal(parked.blocker('shop.order', 'k')?.eventId, eventId(1));
    const third = parked.park('shop.order', 'k', event(3));
    assert.deepEqual(JSON.parse(third.record.key ?? ''), ['unrouted', 'k', 3]);
    assert.equal([...parked.keys()].length, 1);
    for (const n of [1, 2, 3]) parked.remove('shop.order', 'k', eventId(n));
    assert.equal(parked.blocker('unrouted', 'k'), null);
    assert.equal(parked.empty, true);
  });

  test('of another version are refused, not guessed at', async () => {
    const unknown: ParkedRecord[] = [
      { key: Buffer.from('["t","k",1]'), value: Buffer.from('{"v":2}') },
      { key: Buffer.from('no place'), value: Buffer.from('{"v":1}') },
      { key: null, value: Buffer.from('') },
    ];
    for (const record of unknown) {
      const records = async function* () {
        yield record;
      };
      await assert.rejects(load(records()), { code: 'RELAY_CONFIGURATION' });
    }
  });
});
