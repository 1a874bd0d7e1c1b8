/** The offset tracker: in whatever order records are finished, what may be committed is the lowest that is not. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { OffsetTracker } from '../../../src/inbox/offset-tracker.ts';

/** The same, as slowly and plainly as it can be said. */
class Model {
  readonly #offsets: bigint[] = [];
  readonly #finished = new Set<bigint>();

  add(offset: bigint): void {
    this.#offsets.push(offset);
  }

  finish(offset: bigint): void {
    this.#finished.add(offset);
  }

  get open(): bigint[] {
    return this.#offsets.filter((offset) => !this.#finished.has(offset));
  }

  get committable(): bigint | null {
    const last = this.#offsets.at(-1);
    return this.open[0] ?? (last === undefined ? null : last + 1n);
  }

  get span(): number {
    const [lowest] = this.open;
    return lowest === undefined ? 0 : this.#offsets.length - this.#offsets.indexOf(lowest);
  }
}

/** Adds an offset behind the last one, or finishes the open one at this place (of those that are open, modulo their number). */
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), gap: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('finish' as const), place: fc.nat(200) }),
);

describe('the offset tracker', () => {
  test('gives the lowest unfinished offset in any order of finishing, and never goes back', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 62n }),
        fc.array(step, { maxLength: 300, size: 'max' }),
        (first, steps) => {
          const tracker = new OffsetTracker();
          const model = new Model();
          let next = first;
          let highest = -1n;
          for (const step of steps) {
            const { open } = model;
            const offset = step.kind === 'finish' ? open[step.place % open.length] : undefined;
            if (offset !== undefined) {
              tracker.finish(offset);
              model.finish(offset);
            } else if (step.kind === 'add') {
              tracker.add(next);
              model.add(next);
              next += BigInt(step.gap);
            }
            assert.equal(tracker.committable, model.committable);
            assert.equal(tracker.span, model.span);
            assert.ok((tracker.committable ?? -1n) >= highest);
            highest = tracker.committable ?? -1n;
          }
        },
      ),
    );
  });

  test('keeps giving it when many thousand are finished far from the front', () => {
    const tracker = new OffsetTracker();
    const offsets = Array.from({ length: 10_000 }, (_, i) => BigInt(i) * 3n);
    for (const offset of offsets) tracker.add(offset);
    for (const offset of offsets.slice(1).reverse()) tracker.finish(offset);
    assert.deepEqual([tracker.committable, tracker.span], [0n, 10_000]);
    tracker.finish(0n);
    assert.deepEqual([tracker.committable, tracker.span], [29_998n, 0]);
    tracker.add(30_000n);
    assert.deepEqual([tracker.committable, tracker.span], [30_000n, 1]);
  });

  test('does not take what cannot be', () => {
    const tracker = new OffsetTracker();
    assert.throws(() => tracker.finish(5n), RangeError);
    tracker.add(5n);
    tracker.add(7n);
    assert.throws(() => tracker.add(7n), RangeError);
    assert.throws(() => tracker.add(6n), RangeError);
    assert.throws(() => tracker.finish(6n), RangeError); // in a gap
    tracker.finish(7n);
    assert.throws(() => tracker.finish(7n), RangeError); // behind the lowest
    tracker.finish(5n);
    assert.throws(() => tracker.finish(5n), RangeError); // before it
    assert.equal(tracker.committable, 8n);
  });

  test('has nothing to commit before the first record', () => {
    assert.deepEqual([new OffsetTracker().committable, new OffsetTracker().span], [null, 0]);
  });
});
