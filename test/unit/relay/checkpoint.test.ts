/** The checkpoint record: whatever is written is read back whole, and nothing else is taken for one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Lsn } from '../../../src/kernel/lsn.ts';
import { type Checkpoint, decodeCheckpoint, encodeCheckpoint } from '../../../src/relay/checkpoint.ts';
import { checkpoint, eventId, lsn } from '../../support/relay-fixtures.ts';

const anyLsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) as fc.Arbitrary<Lsn>;
/** Plain objects, as the codec makes them. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const big = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const name = fc.string({ unit: 'grapheme' }).filter((text) => text !== '__proto__');

const anyCheckpoint: fc.Arbitrary<Checkpoint> = record({
  relay: name,
  systemId: big.map(String),
  database: name,
  slot: name,
  epoch: count,
  timeline: count,
  run: big,
  endLsn: anyLsn,
  partial: fc.option(record({ commitLsn: anyLsn, xid: fc.nat({ max: 2 ** 32 - 1 }), seq: count })),
  backfill: fc.option(record({ rowSeq: big, count })),
  lastEventId: fc.option(fc.constant(eventId(7))),
  commitTimeMs: count,
  topics: fc.array(fc.tuple(name, record({ id: fc.string(), partitions: count }))).map((topics) => new Map(topics)),
  formerTopics: fc.array(name),
});

test('a checkpoint of a version that wrote no former topics is read as one without any', () => {
  const { former_topics, ...older } = JSON.parse(encodeCheckpoint(checkpoint()).toString());
  assert.deepEqual(former_topics, []);
  assert.deepEqual(decodeCheckpoint(Buffer.from(JSON.stringify(older))), checkpoint());
});

test('any checkpoint comes back as it was', () => {
  fc.assert(
    fc.property(anyCheckpoint, (written) => {
      assert.deepEqual(decodeCheckpoint(encodeCheckpoint(written)), written);
    }),
  );
});

test('it is JSON that a person can read, with LSNs as Postgres prints them', () => {
  const partial = { commitLsn: lsn(0x1_0000_000an), xid: 750, seq: 3 };
  const record = JSON.parse(encodeCheckpoint(checkpoint({ endLsn: lsn(0xff), partial })).toString());
  assert.equal(record.v, 1);
  assert.equal(record.end_lsn, '0/FF');
  assert.deepEqual(record.partial, { commit_lsn: '1/A', xid: 750, seq: 3 });
});

const whole = (): Record<string, unknown> => JSON.parse(encodeCheckpoint(checkpoint()).toString());

const garbage: ReadonlyArray<readonly [what: string, bytes: string]> = [
  ['nothing', ''],
  ['no JSON', 'checkpoint'],
  ['half of it', JSON.stringify(whole()).slice(0, 100)],
  ['another kind of JSON', '[]'],
  ['null', 'null'],
  ['a version to come', JSON.stringify({ ...whole(), v: 2 })],
  ['no end', JSON.stringify({ ...whole(), end_lsn: undefined })],
  ['an end that is no LSN', JSON.stringify({ ...whole(), end_lsn: '255' })],
  ['an end as a number', JSON.stringify({ ...whole(), end_lsn: 255 })],
  ['half a part', JSON.stringify({ ...whole(), partial: { commit_lsn: '0/1' } })],
  ['no word on a part', JSON.stringify({ ...whole(), partial: undefined })],
  ['a negative position', JSON.stringify({ ...whole(), partial: { commit_lsn: '0/1', xid: 1, seq: -1 } })],
  ['a run that is no number', JSON.stringify({ ...whole(), run: 'one' })],
  ['a topic without partitions', JSON.stringify({ ...whole(), topics: { t: { id: 'x' } } })],
];
for (const [what, bytes] of garbage) {
  test(`${what} is refused, without a word of what it says`, () => {
    const decode = () => decodeCheckpoint(Buffer.from(bytes));
    assert.throws(decode, { code: 'RELAY_CHECKPOINT_MISSING', message: /no checkpoint that this version/ });
  });
}

test('fields that a later minor version adds do not matter', () => {
  const bytes = Buffer.from(JSON.stringify({ ...whole(), added: true }));
  assert.deepEqual(decodeCheckpoint(bytes), checkpoint());
});
