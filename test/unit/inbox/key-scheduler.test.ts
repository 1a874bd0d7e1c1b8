/** The key scheduler: the order of each key, one worker a key, nothing lost and nothing twice, whatever becomes of what was taken. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { KeyScheduler, type QueuedRecord, queuedRecord, type Work } from '../../../src/inbox/key-scheduler.ts';

const LIMITS = { maxRecords: 100, maxBytes: 1_000_000, aloneAllowed: true };

/** The `n`th record of all; its key is its id in the scheduler. */
function record(key: string, n: number, bytes = 10): QueuedRecord {
  const place = { topic: 't', partition: 0, offset: BigInt(n), timestampMs: 0 };
  return { ...queuedRecord({ ...place, key: Buffer.from(key), value: null, headers: {} }, bytes), keyId: key };
}

const numbers = (records: readonly QueuedRecord[] = []) => records.map(({ record: { offset } }) => Number(offset));

function scheduler(...keys: string[]): { scheduler: KeyScheduler; records: QueuedRecord[] } {
  const scheduler = new KeyScheduler();
  const records = keys.map((key, n) => record(key, n));
  for (const queued of records) scheduler.push(queued);
  return { scheduler, records };
}

const take = (from: KeyScheduler, limits: Partial<typeof LIMITS> = {}, nowMs = 0) =>
  from.take(nowMs, { ...LIMITS, ...limits });

function taken(from: KeyScheduler, limits: Partial<typeof LIMITS> = {}, nowMs = 0): Work {
  const work = take(from, limits, nowMs);
  assert.ok(work !== null);
  return work;
}

const backTo = (to: KeyScheduler, work: Work, undone: readonly QueuedRecord[] = work.records) =>
  to.finish(work, undone);

describe('the key scheduler', () => {
  test('gives a batch of many keys, within its limits, and the longest waiting first', () => {
    const { scheduler: keys } = scheduler('a', 'b', 'a', 'c', 'b');
    const first = taken(keys, { maxRecords: 3 });
    assert.deepEqual([first.kind, numbers(first.records)], ['batch', [0, 2, 1]]);
    assert.deepEqual(numbers(taken(keys).records), [3]); // 4 is of b, which somebody has
    keys.finish(first);
    assert.deepEqual(numbers(taken(keys).records), [4]);
    assert.equal(take(keys), null);
  });

  test('takes a record that is larger than the limit by itself', () => {
    const keys = new KeyScheduler();
    for (const [n, bytes] of [5, 5, 50, 5].entries()) keys.push(record(`k${n}`, n, bytes));
    const sizes = [1, 2, 3].map(() => numbers(taken(keys, { maxBytes: 20 }).records));
    assert.deepEqual(sizes, [[0, 1], [2], [3]]);
  });

  test('lets a key with much to do wait behind the others after its turn', () => {
    const { scheduler: keys } = scheduler(...Array.from({ length: 6 }, () => 'hot'), 'cold');
    keys.finish(taken(keys, { maxRecords: 2 }));
    assert.deepEqual(numbers(taken(keys, { maxRecords: 2 }).records), [6, 2]);
  });

  test('tries a suspect alone, after those before it and before those behind it', () => {
    const { scheduler: keys, records } = scheduler('a', 'a', 'a', 'b');
    const all = taken(keys);
    for (const suspect of records.slice(1, 2)) suspect.suspect = true;
    backTo(keys, all);
    const kinds: Array<[string, number[]]> = [];
    for (let work = take(keys); work !== null; work = take(keys)) {
      kinds.push([work.kind, numbers(work.records)]);
      keys.finish(work);
    }
    assert.deepEqual(kinds, [
      ['batch', [0, 3]],
      ['alone', [1]],
      ['batch', [2]],
    ]);
  });

  test('leaves suspects to others when it is told so', () => {
    const { scheduler: keys, records } = scheduler('a', 'b');
    for (const suspect of records.slice(0, 1)) suspect.suspect = true;
    assert.deepEqual(numbers(taken(keys, { aloneAllowed: false }).records), [1]);
    assert.equal(take(keys, { aloneAllowed: false }), null);
    assert.deepEqual(numbers(taken(keys).records), [0]);
  });

  test('gives the events of a parked key by themselves, suspects or not, until it is let go', () => {
    const { scheduler: keys, records } = scheduler('a', 'a', 'b');
    const work = taken(keys);
    for (const queue of work.queues) queue.parkedBehind = queue.id === 'a' ? 'an event' : null;
    for (const suspect of records.slice(1, 2)) suspect.suspect = true;
    backTo(keys, work);
    const parked = taken(keys);
    assert.deepEqual([parked.kind, numbers(parked.records)], ['parked', [0, 1]]);
    keys.finish(parked);
    keys.push(record('a', 9));
    assert.equal(taken(keys, { maxRecords: 1 }).kind, 'batch'); // b comes first
    assert.equal(taken(keys).kind, 'parked');
    keys.letGo('a');
  });

  test('forgets that a key was parked when it is let go', () => {
    const { scheduler: keys } = scheduler('a');
    const work = taken(keys);
    for (const queue of work.queues) queue.parkedBehind = 'an event';
    keys.finish(work);
    keys.hold('a');
    keys.push(record('a', 1));
    assert.equal(take(keys), null);
    keys.letGo('a');
    assert.equal(taken(keys).kind, 'batch');
  });

  test('gives a held key to nobody, but leaves it to who has it', () => {
    const { scheduler: keys } = scheduler('a');
    const work = taken(keys);
    keys.hold('a');
    assert.equal(keys.isTaken('a'), true);
    backTo(keys, work);
    assert.deepEqual([keys.isTaken('a'), take(keys), keys.nextDueMs(0)], [false, null, null]);
    keys.letGo('a');
    assert.deepEqual(numbers(taken(keys).records), [0]);
  });

  test('a key may be held before it has events', () => {
    const keys = new KeyScheduler();
    keys.hold('a');
    keys.push(record('a', 0));
    assert.equal(take(keys), null);
    keys.letGo('a');
    assert.deepEqual(numbers(taken(keys).records), [0]);
  });

  test('lets a delayed key wait, and says when it is due', () => {
    const { scheduler: keys } = scheduler('a', 'b');
    const work = taken(keys);
    for (const queue of work.queues) queue.notBeforeMs = queue.id === 'a' ? 50 : 20;
    backTo(keys, work);
    assert.deepEqual([take(keys, {}, 10), keys.nextDueMs(10)], [null, 20]);
    assert.deepEqual(numbers(taken(keys, {}, 20).records), [1]);
    assert.equal(keys.nextDueMs(20), 50);
    assert.deepEqual([keys.nextDueMs(50), numbers(taken(keys, {}, 50).records)], [null, [0]]);
  });
});

const KEYS = ['a', 'b', 'c', 'd'];
const key = fc.constantFrom(...KEYS);
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('push' as const), key, bytes: fc.integer({ min: 1, max: 40 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      maxRecords: fc.integer({ min: 1, max: 6 }),
      maxBytes: fc.integer({ min: 1, max: 100 }),
      aloneAllowed: fc.boolean(),
    }),
  },
  /** Ends a piece of work: of each key the first `done` records are, the rest comes again; what is left suspect or parked behind, and when. */
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      which: fc.nat(3),
      done: fc.nat(4),
      suspect: fc.boolean(),
      park: fc.boolean(),
      delayMs: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('hold' as const), key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('letGo' as const), key }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('tick' as const) }) },
);
type Command = typeof command extends fc.Arbitrary<infer C> ? C : never;

/** What must be true of a scheduler, told as lists: of each key what is left, in order, and what of it somebody has. */
class Model {
  readonly keys = new KeyScheduler();
  readonly left = new Map<string, QueuedRecord[]>(KEYS.map((name) => [name, []]));
  readonly held = new Set<string>();
  readonly dueMs = new Map<string, number>();
  readonly works: Work[] = [];
  nowMs = 0;
  pushed = 0;
  done = 0;

  run(command: Command): void {
    switch (command.kind) {
      case 'push':
        this.#push(command.key, command.bytes);
        break;
      case 'take':
        this.take(command);
        break;
      case 'end':
        this.#end(command);
        break;
      case 'hold':
        this.held.add(command.key);
        this.keys.hold(command.key);
        break;
      case 'letGo':
        this.letGo(command.key);
        break;
      case 'tick':
        this.nowMs += 1;
    }
    this.#assertCounts();
  }

  letGo(key: string): void {
    this.held.delete(key);
    this.keys.letGo(key);
  }

  #push(key: string, bytes: number): void {
    const queued = record(key, this.pushed++, bytes);
    this.left.get(key)?.push(queued);
    this.keys.push(queued);
  }

  take(limits: { maxRecords: number; maxBytes: number; aloneAllowed: boolean }): Work | null {
    const work = this.keys.take(this.nowMs, limits);
    if (work === null) {
      if (limits.aloneAllowed) assert.deepEqual(this.#ready(), [], 'somebody was ready and nobody was taken');
      return null;
    }
    this.#assertTakable(work, limits);
    this.works.push(work);
    return work;
  }

  #ready(): string[] {
    return KEYS.filter((key) => this.left.get(key)?.length !== 0 && this.#isFree(key));
  }

  #isFree(key: string): boolean {
    const busy = this.works.some(({ queues }) => queues.some(({ id }) => id === key));
    return !busy && !this.held.has(key) && (this.dueMs.get(key) ?? 0) <= this.nowMs;
  }

  #assertTakable({ kind, records, queues }: Work, limits: { maxRecords: number; maxBytes: number }): void {
    assert.ok(records.length > 0 && records.length <= limits.maxRecords);
    const bytes = records.reduce((sum, queued) => sum + queued.bytes, 0);
    assert.ok(records.length === 1 || bytes <= limits.maxBytes);
    for (const { id, parkedBehind } of queues) {
      assert.ok(this.#isFree(id), `${id} was not to be had`);
      const own = records.filter(({ keyId }) => keyId === id);
      assert.deepEqual(own, this.left.get(id)?.slice(0, own.length), 'not the next of the key');
      assert.equal(kind === 'parked', parkedBehind !== null);
    }
    if (kind === 'batch') assert.ok(records.every(({ suspect }) => !suspect));
    if (kind === 'alone')
      assert.deepEqual(
        records.map(({ suspect }) => suspect),
        [true],
      );
    if (kind === 'parked') assert.equal(queues.length, 1);
  }

  #end({ which, done, suspect, park, delayMs }: Extract<Command, { kind: 'end' }>): void {
    const [work] = this.works.splice(which % Math.max(1, this.works.length), 1);
    if (work === undefined) return;
    const undone = work.queues.flatMap(({ id }) => work.records.filter(({ keyId }) => keyId === id).slice(done));
    for (const queued of undone.slice(0, 1)) queued.suspect = suspect;
    for (const queue of work.queues) {
      const own = work.records.filter(({ keyId }) => keyId === queue.id);
      this.left.get(queue.id)?.splice(0, Math.min(done, own.length));
      this.done += Math.min(done, own.length);
      if (park) queue.parkedBehind = 'an event';
      if (done >= own.length) continue; // only what comes again is delayed
      queue.notBeforeMs = this.nowMs + delayMs;
      this.dueMs.set(queue.id, queue.notBeforeMs);
    }
    this.keys.finish(work, undone);
  }

  #assertCounts(): void {
    const left = [...this.left.values()].flat();
    assert.equal(this.keys.size, left.length);
    assert.equal(this.keys.size, this.pushed - this.done);
    assert.equal(
      this.keys.bytes,
      left.reduce((sum, { bytes }) => sum + bytes, 0),
    );
    for (const id of KEYS) {
      assert.equal(
        this.keys.isTaken(id),
        this.works.some(({ queues }) => queues.some((queue) => queue.id === id)),
      );
    }
  }
}

test('whatever becomes of what was taken, a key keeps its order and nothing is lost or done twice', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 150, size: 'max' }), (commands) => {
      const model = new Model();
      for (const command of commands) model.run(command);
      for (const key of KEYS) model.letGo(key);
      model.nowMs += 10;
      const finish = { kind: 'end', which: 0, done: 1_000, suspect: false, park: false, delayMs: 0 } as const;
      while (model.works.length > 0) model.run(finish);
      while (model.take(LIMITS) !== null) model.run(finish);
      assert.deepEqual([model.done, model.keys.size, model.keys.bytes], [model.pushed, 0, 0]);
    }),
    { numRuns: 300 },
  );
});
