/**
 * Version vectors: the laws of their order, and copies that are cut off from each other: they end with the same value whatever is delivered
 * when, and the same runs show it where a merge or a write breaks what `reconcile` asks of it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  compareVectors,
  formatVector,
  incremented,
  joinVectors,
  parseVector,
  reconcile,
  type Versioned,
  type VersionVector,
  versionVectorOf,
} from '../../../src/inbox/version-vector.ts';

/** Few nodes and small counters, so that all four orders are met; `constructor` is a property of every object. */
const node = fc.constantFrom('a', 'b', 'constructor', 'toString');
const vector: fc.Arbitrary<VersionVector> = fc.dictionary(node, fc.nat(3), { noNullPrototype: true });
const notAfter = (a: VersionVector, b: VersionVector) => ['equal', 'before'].includes(compareVectors(a, b));

describe('the order', () => {
  test('of examples', () => {
    assert.equal(compareVectors({}, {}), 'equal');
    assert.equal(compareVectors({ a: 1 }, { a: 1, b: 0 }), 'equal');
    assert.equal(compareVectors({ a: 1 }, { a: 1, b: 1 }), 'before');
    assert.equal(compareVectors({ a: 2 }, { a: 1 }), 'after');
    assert.equal(compareVectors({ a: 2 }, { a: 1, b: 1 }), 'concurrent');
    assert.equal(compareVectors({}, { constructor: 1 }), 'before');
  });

  test('is a partial order, and the same from both sides', () => {
    const mirrored = { equal: 'equal', before: 'after', after: 'before', concurrent: 'concurrent' };
    fc.assert(
      fc.property(vector, vector, vector, (a, b, c) => {
        assert.equal(compareVectors(a, a), 'equal');
        assert.equal(compareVectors(b, a), mirrored[compareVectors(a, b)]);
        if (notAfter(a, b) && notAfter(b, c)) assert.ok(notAfter(a, c));
      }),
    );
  });

  test('has the join as its least upper bound', () => {
    fc.assert(
      fc.property(vector, vector, vector, (a, b, other) => {
        const join = joinVectors(a, b);
        assert.ok(notAfter(a, join) && notAfter(b, join));
        if (notAfter(a, other) && notAfter(b, other)) assert.ok(notAfter(join, other));
      }),
    );
  });

  test('puts a write after what it was written on, and beside what others write on that', () => {
    fc.assert(
      fc.property(vector, (seen) => {
        assert.equal(compareVectors(incremented(seen, 'a'), seen), 'after');
        assert.equal(compareVectors(incremented(seen, 'a'), incremented(seen, 'b')), 'concurrent');
      }),
    );
  });
});

describe('the text', () => {
  test('is equal for equal vectors, and comes back as the same vector', () => {
    fc.assert(
      fc.property(vector, vector, (a, b) => {
        assert.equal(formatVector(a) === formatVector(b), compareVectors(a, b) === 'equal');
        assert.equal(compareVectors(parseVector(formatVector(a)), a), 'equal');
      }),
    );
    assert.equal(formatVector({ b: 2, c: 0, a: 1 }), '{"a":1,"b":2}');
  });

  test('of anything else is refused', () => {
    const bad = [
      '',
      'null',
      '[]',
      '7',
      '"a"',
      '{"a":-1}',
      '{"a":1.5}',
      '{"a":"1"}',
      '{"a":null}',
      '{"a":9007199254740992}',
    ];
    const badNames = ['{"":1}', '{"__proto__":1}', '{"\\ud800":1}', '{"\\u0000":1}'];
    for (const text of [...bad, ...badNames]) {
      assert.throws(() => parseVector(text), { code: 'VERSION_VECTOR_INVALID' }, text);
    }
    assert.throws(() => versionVectorOf({ a: 1n }), { code: 'VERSION_VECTOR_INVALID' });
  });

  test('cannot be needed for a node or a counter that it does not hold', () => {
    for (const name of ['', '__proto__', '\ud800']) {
      assert.throws(() => incremented({}, name), { code: 'VERSION_VECTOR_INVALID' });
    }
    assert.throws(() => incremented({ a: Number.MAX_SAFE_INTEGER }, 'a'), { code: 'VERSION_VECTOR_INVALID' });
  });
});

describe('reconcile', () => {
  const never = () => assert.fail('nothing to merge');

  test('keeps the later one, and the local object where nothing is to be written', () => {
    const older = { value: 'older', vector: { a: 1 } };
    const newer = { value: 'newer', vector: { a: 1, b: 1 } };
    assert.equal(reconcile(older, newer, never), newer);
    assert.equal(reconcile(newer, older, never), newer);
    assert.equal(reconcile(newer, { value: 'its double', vector: { b: 1, a: 1 } }, never), newer);
  });

  test('merges concurrent ones, the local value first, under the joined vector', () => {
    const local = { value: 'x', vector: { a: 2, b: 1 } };
    const incoming = { value: 'y', vector: { a: 1, b: 2 } };
    const kept = reconcile(local, incoming, (mine, theirs) => mine + theirs);
    assert.deepEqual(kept, { value: 'xy', vector: { a: 2, b: 2 } });
  });
});

/** How a kind of value is written and merged. */
interface Kind<T> {
  readonly initial: T;
  write(old: T, node: string, input: number): T;
  merge(local: T, incoming: T): T;
}

interface Stamped {
  readonly at: number;
  readonly node: string;
  readonly input: number;
}

const SET: Kind<readonly number[]> = {
  initial: [],
  write: (old, _, input) => [...new Set([...old, input])].sort(),
  merge: (local, incoming) => [...new Set([...local, ...incoming])].sort(),
};
/** The last one wins; its clock is always later than what it has seen (L. Lamport, CACM 21(7), 1978). */
const LAST_WRITE: Kind<Stamped> = {
  initial: { at: 0, node: '', input: 0 },
  write: (old, node, input) => ({ at: Math.max(input, old.at + 1), node, input }),
  merge: (a, b) => (a.at > b.at || (a.at === b.at && a.node > b.node) ? a : b),
};
const LOCAL_WINS: Kind<Stamped> = { ...LAST_WRITE, merge: (local) => local };
const UNSEEN_CLOCK: Kind<Stamped> = { ...LAST_WRITE, write: (_, node, input) => ({ at: input, node, input }) };
const SUM: Kind<number> = { initial: 0, write: (old, _, input) => old + input, merge: (a, b) => a + b };

const step = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('write' as const), at: fc.nat(2), input: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('send' as const), at: fc.nat(2) }) },
  // any state that was sent so far: late, early, again, or never
  { weight: 4, arbitrary: fc.record({ do: fc.constant('deliver' as const), at: fc.nat(2), which: fc.nat(50) }) },
);

/** In any run of `steps`, states that have seen the same writes are the same; and one exchange of all leads to one state everywhere. */
function converges<T>({ initial, write, merge }: Kind<T>, copyCount: number) {
  return fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
    const nodes = ['a', 'b', 'c'].slice(0, copyCount);
    const copies: Array<Versioned<T>> = nodes.map(() => ({ value: initial, vector: {} }));
    const sent: Array<Versioned<T>> = [];
    const seen = new Map<string, T>();
    const enter = (at: number, state: Versioned<T>) => {
      const text = formatVector(state.vector);
      assert.deepEqual(state.value, seen.get(text) ?? state.value);
      seen.set(text, state.value);
      copies[at] = state;
      return state;
    };
    for (const step of steps) {
      const at = step.at % copyCount;
      const copy = copies[at] ?? assert.fail();
      const node = nodes[at] ?? assert.fail();
      if (step.do === 'send') sent.push(copy);
      else if (step.do === 'deliver') enter(at, reconcile(copy, sent[step.which % sent.length] ?? copy, merge));
      else {
        const value = write(copy.value, node, step.input);
        sent.push(enter(at, { value, vector: incremented(copy.vector, node) }));
      }
    }
    const last = [...copies];
    for (const [at, copy] of last.entries()) {
      enter(
        at,
        last.reduce((kept, state) => reconcile(kept, state, merge), copy),
      );
    }
    for (const copy of copies) assert.equal(compareVectors(copy.vector, copies[0]?.vector ?? {}), 'equal');
  });
}

describe('copies that were cut off from each other', () => {
  for (const copyCount of [2, 3]) {
    test(`converge: ${copyCount} copies of a set, and of a value of which the last write wins`, () => {
      fc.assert(converges(SET, copyCount), { numRuns: 500 });
      fc.assert(converges(LAST_WRITE, copyCount), { numRuns: 500 });
    });
  }

  const finds = (kind: Parameters<typeof converges<never>>[0]) =>
    assert.ok(fc.check(converges(kind, 2), { numRuns: 1_000, seed: 1 }).failed);

  test('do not where a merge is not commutative', () => finds(LOCAL_WINS as Kind<never>));
  test('do not where a merge is not idempotent', () => finds(SUM as Kind<never>));
  test('do not where a write goes below what it replaces', () => finds(UNSEEN_CLOCK as Kind<never>));
});
