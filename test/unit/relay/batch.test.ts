/** Batches over any transactions and limits: nothing lost, nothing reordered, and a transaction cut only where it must be. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Batch, BatchBuilder, type BatchEntry, type BatchLimits } from '../../../src/relay/batch.ts';
import { batchEntry, lsn } from '../../support/relay-fixtures.ts';

interface Transaction {
  readonly commitLsn: number;
  readonly xid: number;
  readonly entries: readonly BatchEntry[];
  readonly heartbeats: readonly string[];
}

const shapes = fc.array(
  fc.record({
    sizes: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 }),
    skips: fc.integer({ min: 1, max: 3 }),
    heartbeat: fc.boolean(),
  }),
  { maxLength: 25 },
);
const limits = fc.record({ maxEvents: fc.integer({ min: 1, max: 10 }), maxBytes: fc.integer({ min: 1, max: 120 }) });

/** Transactions 100 apart; within one, `seq` grows by `skips`: messages and foreign rows count too. */
function transactionsOf(taken: ReadonlyArray<{ sizes: number[]; skips: number; heartbeat: boolean }>): Transaction[] {
  let n = 0;
  return taken.map(({ sizes, skips, heartbeat }, i) => {
    const commitLsn = (i + 1) * 100;
    const entries = sizes.map((size, row) =>
      batchEntry(++n, { commitLsn: lsn(commitLsn), seq: (row + 1) * skips }, size),
    );
    return { commitLsn, xid: 700 + i, entries, heartbeats: heartbeat ? [`beat-${i}`] : [] };
  });
}

/** Feeds the builder as the relay does: taking when it is full, and now and then when it is ready. */
function gather(transactions: readonly Transaction[], bounds: BatchLimits, takeEarly: () => boolean): Batch[] {
  const builder = new BatchBuilder(bounds);
  const batches: Batch[] = [];
  const take = () => {
    while (builder.full || (builder.ready && takeEarly())) batches.push(builder.take());
  };
  for (const { commitLsn, xid, entries, heartbeats } of transactions) {
    builder.begin(lsn(commitLsn), xid);
    for (const entry of entries) {
      builder.add(entry);
      take();
    }
    builder.end({ endLsn: lsn(commitLsn + 8), commitTimeMs: commitLsn, heartbeats });
    take();
  }
  while (!builder.empty) batches.push(builder.take());
  return batches;
}

test('any transactions under any limits: every entry once and in order, each position right', () => {
  fc.assert(
    fc.property(shapes, limits, fc.infiniteStream(fc.boolean()), (taken, bounds, choices) => {
      const transactions = transactionsOf(taken);
      const batches = gather(transactions, bounds, () => choices.next().value === true);
      assert.deepEqual(
        batches.flatMap((batch) => batch.entries.map((entry) => entry.eventId)),
        transactions.flatMap(({ entries }) => entries.map((entry) => entry.eventId)),
      );
      assert.deepEqual(
        batches.flatMap((batch) => batch.ends.flatMap((end) => end.heartbeats)),
        transactions.flatMap(({ heartbeats }) => heartbeats),
      );
      for (const batch of batches) assertBatch(batch, bounds, transactions);
      assert.equal(batches.at(-1)?.ends.at(-1)?.endLsn, lastEnd(transactions));
      assertEndsCoverEntries(batches);
    }),
  );
});

function lastEnd(transactions: readonly Transaction[]): bigint | undefined {
  const last = transactions.at(-1);
  return last === undefined ? undefined : lsn(last.commitLsn + 8);
}

function assertBatch(batch: Batch, bounds: BatchLimits, transactions: readonly Transaction[]): void {
  const { entries, ends, partial, bytes } = batch;
  assert.equal(
    bytes,
    entries.reduce((sum, entry) => sum + entry.bytes, 0),
  );
  if (partial === null) return;
  // inside a transaction: it alone is in the batch, which is as full as it may be, and its last entry's position is told
  const split = transactions.find((one) => lsn(one.commitLsn) === partial.commitLsn);
  assert.deepEqual(ends, []);
  assert.equal(partial.xid, split?.xid);
  assert.deepEqual(new Set(entries.map((entry) => entry.position.commitLsn)), new Set([partial.commitLsn]));
  assert.equal(partial.seq, entries.at(-1)?.position.seq);
  assert.ok(entries.length >= bounds.maxEvents || bytes >= bounds.maxBytes, 'split although it was not full');
}

/** At any point between two batches, the ends told and the partial say exactly which entries are out. */
function assertEndsCoverEntries(batches: readonly Batch[]): void {
  let endLsn = 0n;
  for (const { entries, ends, partial } of batches) {
    for (const end of ends) {
      assert.ok(end.endLsn > endLsn, 'ends only grow');
      endLsn = end.endLsn;
    }
    for (const { position } of entries) {
      const covered = position.commitLsn < endLsn;
      const inPart = position.commitLsn === partial?.commitLsn && position.seq <= partial.seq;
      assert.ok(covered || inPart, 'an entry went out that no position covers');
    }
  }
}

describe('ready', () => {
  const end = (endLsn: number, heartbeats: string[] = []) => ({ endLsn: lsn(endLsn), commitTimeMs: 0, heartbeats });

  test('not while a transaction that fits is still open, and then with its end', () => {
    const builder = new BatchBuilder({ maxEvents: 10, maxBytes: 1_000 });
    builder.begin(lsn(1), 1);
    builder.add(batchEntry(1, { commitLsn: lsn(1), seq: 1 }));
    assert.equal(builder.ready, false);
    builder.end(end(2));
    assert.equal(builder.ready, true);
  });

  test('not for transactions without events, which become one end; but for a heartbeat', () => {
    const builder = new BatchBuilder({ maxEvents: 10, maxBytes: 1_000 });
    for (let i = 1; i <= 3; i++) {
      builder.begin(lsn(i * 10), i);
      builder.end(end(i * 10 + 5));
    }
    assert.equal(builder.ready, false);
    builder.begin(lsn(40), 4);
    builder.end(end(45, ['beat']));
    assert.equal(builder.ready, true);
    assert.deepEqual(builder.take().ends, [end(45, ['beat'])]);
    assert.equal(builder.empty, true);
  });

  test('whole transactions go without the open one behind them', () => {
    const builder = new BatchBuilder({ maxEvents: 10, maxBytes: 1_000 });
    builder.begin(lsn(1), 1);
    builder.add(batchEntry(1, { commitLsn: lsn(1), seq: 1 }));
    builder.end(end(2));
    builder.begin(lsn(3), 2);
    builder.add(batchEntry(2, { commitLsn: lsn(3), seq: 1 }));
    const { entries, partial } = builder.take();
    assert.deepEqual([entries.length, partial, builder.ready, builder.empty], [1, null, false, false]);
  });

  test('fill tells the nearer of the two limits', () => {
    const builder = new BatchBuilder({ maxEvents: 10, maxBytes: 100 });
    builder.begin(lsn(1), 1);
    builder.add(batchEntry(1, { commitLsn: lsn(1), seq: 1 }, 50));
  });
});

test('changes out of place are errors', () => {
  const builder = new BatchBuilder({ maxEvents: 10, maxBytes: 100 });
  assert.throws(() => builder.add(batchEntry(1, { commitLsn: lsn(1), seq: 1 })), /outside/);
  assert.throws(() => builder.end({ endLsn: lsn(1), commitTimeMs: 0, heartbeats: [] }), /not begun/);
  builder.begin(lsn(1), 1);
  assert.throws(() => builder.begin(lsn(2), 2), /inside/);
});
