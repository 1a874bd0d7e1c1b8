/** What a member has from one rebalance to the next: which offsets may be committed, and whether there is room for more. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Assignment } from '../../../src/inbox/assignment.ts';
import type { Work } from '../../../src/inbox/key-scheduler.ts';
import { keyId } from '../../../src/inbox/key-scheduler.ts';
import type { LogRecord } from '../../../src/kafka/log-reader.ts';

const ROOMY = { maxEvents: 1_000_000, maxBytes: 1_000_000_000 };
const PARTITIONS = [
  { topic: 't', partition: 0 },
  { topic: 't', partition: 1 },
];

function record(partition: number, offset: number, key: string | null = 'k', bytes = 0): LogRecord {
  const value = Buffer.alloc(bytes);
  return {
    ...{ topic: 't', partition, offset: BigInt(offset), timestampMs: 0, headers: {}, value },
    key: key === null ? null : Buffer.from(key),
  };
}

function takeAll({ scheduler }: Assignment): Work {
  const work = scheduler.take(0, { maxRecords: 1_000_000, maxBytes: 1_000_000_000, aloneAllowed: true });
  assert.ok(work !== null);
  return work;
}

const offsets = (assignment: Assignment) =>
  assignment.committable().map(({ topic, partition, offset }) => `${topic}/${partition}: ${offset}`);

describe('an assignment', () => {
  test('commits of each partition the lowest offset that is not done with', () => {
    const assignment = new Assignment(PARTITIONS);
    assert.deepEqual(offsets(assignment), []);
    assignment.offer([record(0, 5, 'a'), record(0, 9, 'b')]);
    assignment.offer([record(1, 100, 'c')]);
    assert.deepEqual(offsets(assignment), ['t/0: 5', 't/1: 100']);
    const work = takeAll(assignment);
    const [first] = work.records;
    assert.ok(first !== undefined);
    assignment.finish(work, [first]);
    assert.deepEqual(offsets(assignment), ['t/0: 5', 't/1: 101']);
    assignment.finish(takeAll(assignment), []);
    assert.deepEqual(offsets(assignment), ['t/0: 10', 't/1: 101']);
  });

  test('has room until events or bytes are too many, and again when they are done', () => {
    const assignment = new Assignment(PARTITIONS);
    assignment.offer([record(0, 0, 'a', 3_000), record(0, 1, 'b', 3_000)]);
    assert.equal(assignment.hasRoom({ ...ROOMY, maxEvents: 2 }), false);
    assert.equal(assignment.hasRoom({ ...ROOMY, maxEvents: 3 }), true);
    assert.equal(assignment.hasRoom({ ...ROOMY, maxBytes: 6_000 }), false);
    assert.equal(assignment.hasRoom({ ...ROOMY, maxBytes: 20_000 }), true);
    const work = takeAll(assignment);
    assert.equal(assignment.hasRoom({ ...ROOMY, maxEvents: 2 }), false, 'what is worked on takes room');
    assignment.finish(work, []);
    assert.equal(assignment.hasRoom({ maxEvents: 1, maxBytes: 1 }), true);
  });

  test('has no room while too much would come again after a crash', () => {
    const assignment = new Assignment(PARTITIONS);
    assignment.offer([record(0, 0, 'stuck')]);
    const stuck = takeAll(assignment);
    assignment.offer(Array.from({ length: 100_000 }, (_, i) => record(0, i + 1, null)));
    assignment.finish(takeAll(assignment), []);
    assert.equal(assignment.scheduler.size, 1);
    assert.equal(assignment.hasRoom(ROOMY), false);
    assignment.finish(stuck, []);
    assert.equal(assignment.hasRoom(ROOMY), true);
    assert.deepEqual(offsets(assignment), ['t/0: 100001']);
  });
});

describe('in whose order a record stands', () => {
  test('is its key’s, whatever its bytes, within its topic', () => {
    const binary = { ...record(0, 1), key: Buffer.from([0xff, 0x00]) };
    const ids = [record(0, 1), { ...record(0, 1), topic: 'u' }, record(0, 1, 'k '), record(0, 1, ''), binary].map(
      keyId,
    );
    assert.equal(new Set(ids).size, ids.length);
    assert.equal(keyId(record(0, 1)), keyId(record(1, 7)));
    assert.notEqual(keyId(binary), keyId({ ...binary, key: Buffer.from([0xfe, 0x00]) }));
  });

  test('is its own without a key', () => {
    const ids = [record(0, 1, null), record(0, 2, null), record(1, 1, null), record(0, 1, ''), record(0, 1, '0/1')].map(
      keyId,
    );
    assert.equal(new Set(ids).size, ids.length);
  });
});
