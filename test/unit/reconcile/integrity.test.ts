/** The counting must find every kind of fault, or no proof of Ferry's means anything: faults are planted in sound histories. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Lsn } from '../../../src/kernel/lsn.ts';
import {
  countIntegrity,
  FAULTS,
  type Fault,
  isSound,
  type LedgerRow,
  type PublishedRecord,
} from '../../../src/reconcile/integrity.ts';

interface History {
  rows: LedgerRow[];
  records: PublishedRecord[];
}

/** A sound history: event i belongs to aggregate `plan[i].aggregate`, whose number also chooses its partition. */
function soundHistory(plan: ReadonlyArray<{ aggregate: number; rowsInCommit: boolean }>, versioned: boolean): History {
  const versions = new Map<number, bigint>();
  const offsets = new Map<number, bigint>();
  const history: History = { rows: [], records: [] };
  let commitLsn = 1n;
  let seq = 0;
  for (const [index, { aggregate, rowsInCommit }] of plan.entries()) {
    seq = rowsInCommit ? seq + 1 : 1;
    if (!rowsInCommit) commitLsn += 8n;
    const version = (versions.get(aggregate) ?? 0n) + 1n;
    versions.set(aggregate, version);
    const partition = aggregate % 3;
    const offset = (offsets.get(partition) ?? -1n) + 1n;
    offsets.set(partition, offset);
    const id = `event-${index}`;
    const aggregateId = `aggregate-${aggregate}`;
    history.rows.push({ id, aggregateType: 'order', aggregateId, aggregateVersion: versioned ? version : null });
    history.records.push({
      topic: 'commerce.order',
      partition,
      offset,
      key: aggregateId,
      id,
      position: { commitLsn: commitLsn as Lsn, seq },
      deadLetter: false,
      replayed: false,
      release: null,
      decoded: true,
    });
  }
  return history;
}

/** Offsets anew, in the order of the list: what a broker would have given. */
function renumber(records: readonly PublishedRecord[]): PublishedRecord[] {
  const next = new Map<string, bigint>();
  return records.map((record) => {
    const place = `${record.topic}/${record.partition}`;
    const offset = next.get(place) ?? 0n;
    next.set(place, offset + 1n);
    return { ...record, offset };
  });
}

function asDeadLetter(record: PublishedRecord): PublishedRecord {
  return { ...record, topic: `${record.topic}.dlq`, deadLetter: true, release: null };
}

function replaceAt(records: readonly PublishedRecord[], at: number, change: Partial<PublishedRecord>) {
  return records.map((record, index) => (index === at ? { ...record, ...change } : record));
}

/** Each plants one fault at record `at` and says what must be counted; null where the history has no place for it. */
const PLANTS: Record<string, { fault: Fault; plant: (history: History, at: number) => PublishedRecord[] | null }> = {
  'a record is lost': { fault: 'missing', plant: ({ records }, at) => records.filter((_, index) => index !== at) },
  'a record is sent twice': {
    fault: 'duplicates',
    plant: ({ records }, at) => [...records.slice(0, at + 1), ...records.slice(at)],
  },
  'the tail is sent again': { fault: 'duplicates', plant: ({ records }, at) => [...records, ...records.slice(at)] },
  'a published event is dead-lettered, too': {
    fault: 'duplicates',
    plant: ({ records }, at) => [
      ...records,
      ...records.slice(at, at + 1).map((record) => ({ ...record, topic: 'commerce.order.dlq', deadLetter: true })),
    ],
  },
  'a released event is published twice': {
    fault: 'duplicates',
    plant: ({ records }, at) => {
      const released = records.slice(at, at + 1).map((record) => ({ ...record, release: 'key' as const }));
      return [
        ...records.slice(0, at),
        ...released.map(asDeadLetter),
        ...released,
        ...released,
        ...records.slice(at + 1),
      ];
    },
  },
  'a dead letter is there twice although no release refused it again': {
    fault: 'duplicates',
    plant: ({ records }, at) => {
      const letters = records.slice(at, at + 1).map(asDeadLetter);
      return [...records.slice(0, at), ...letters, ...letters, ...records.slice(at + 1)];
    },
  },
  'newer events have overtaken those of a released key': {
    fault: 'outOfOrder',
    plant: ({ records }, at) => {
      const first = records[at];
      if (first === undefined || !records.some(({ key }, index) => index > at && key === first.key)) return null;
      return [...records.toSpliced(at, 1), asDeadLetter(first), { ...first, release: 'key' as const }];
    },
  },
  'two records of an aggregate change places': {
    fault: 'outOfOrder',
    plant: ({ records }, at) => {
      const first = records[at];
      const later = records.findIndex((record, index) => index > at && record.key === first?.key);
      const second = records[later];
      if (first === undefined || second === undefined) return null;
      return records.map((record, index) => (index === at ? second : index === later ? first : record));
    },
  },
  'an aggregate goes to a second partition': {
    fault: 'outOfOrder',
    plant: ({ records }, at) => {
      const key = records[at]?.key;
      if (!records.slice(0, at).some((record) => record.key === key)) return null;
      return replaceAt(records, at, { partition: 7 });
    },
  },
  'a value does not decode': {
    fault: 'undecodable',
    plant: ({ records }, at) => replaceAt(records, at, { decoded: false }),
  },
  'a record of no row appears': {
    fault: 'unexpected',
    plant: ({ records }, at) => [
      ...records,
      ...records.slice(at, at + 1).map((record) => ({ ...record, id: 'event-of-nobody' })),
    ],
  },
  'a record without an id appears': {
    fault: 'unexpected',
    plant: ({ records }, at) => [...records, ...records.slice(at, at + 1).map((record) => ({ ...record, id: null }))],
  },
  'a record has the key of another aggregate': {
    fault: 'unexpected',
    plant: ({ records }, at) => replaceAt(records, at, { key: 'somebody else' }),
  },
};

const PLAN = [0, 1, 0, 2, 1, 0, 0, 4].map((aggregate, index) => ({ aggregate, rowsInCommit: index % 3 === 1 }));
const planArbitrary = fc.array(fc.record({ aggregate: fc.nat(6), rowsInCommit: fc.boolean() }), {
  minLength: 1,
  maxLength: 60,
});

describe('countIntegrity', () => {
  test('finds nothing wrong with an empty history', async () => {
    const report = await countIntegrity([], []);
    assert.equal(report.outboxRows, 0);
    assert.ok(isSound(report));
  });

  test('finds nothing wrong with a sound history, whether rows have versions or not', async () => {
    await fc.assert(
      fc.asyncProperty(planArbitrary, fc.boolean(), async (plan, versioned) => {
        const { rows, records } = soundHistory(plan, versioned);
        const report = await countIntegrity(rows, records);
        assert.ok(isSound(report), JSON.stringify(report));
        assert.equal(report.published, rows.length);
        assert.equal(report.outboxRows, rows.length);
      }),
    );
  });

  for (const [name, { fault, plant }] of Object.entries(PLANTS)) {
    test(`finds that ${name}`, async () => {
      const history = soundHistory(PLAN, true);
      const report = await countIntegrity(history.rows, renumber(plant(history, 5) ?? []));
      assert.ok(report[fault] > 0);
      assert.ok(report.examples[fault].length > 0);
      for (const other of FAULTS.filter((candidate) => candidate !== fault)) assert.equal(report[other], 0, other);
    });

    test(`finds in any history that ${name}, and blames nothing else`, async () => {
      await fc.assert(
        fc.asyncProperty(planArbitrary, fc.nat(), fc.boolean(), async (plan, place, versioned) => {
          const history = soundHistory(plan, versioned);
          const planted = plant(history, place % plan.length);
          fc.pre(planted !== null);
          const report = await countIntegrity(history.rows, renumber(planted));
          assert.ok(report[fault] > 0, JSON.stringify(report));
          for (const other of FAULTS.filter((candidate) => candidate !== fault)) assert.equal(report[other], 0, other);
        }),
      );
    });
  }

  test('counts every extra record, not every event sent twice', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const report = await countIntegrity(rows, renumber([...records, ...records, ...records.slice(0, 3)]));
    assert.equal(report.duplicates, PLAN.length + 3);
    assert.equal(report.published, PLAN.length);
  });

  test('accounts for dead letters: neither missing nor published', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const dead = replaceAt(records, 2, { topic: 'commerce.order.dlq', deadLetter: true, decoded: false });
    const report = await countIntegrity(rows, renumber(dead));
    assert.ok(isSound(report));
    assert.equal(report.deadLettered, 1);
    assert.equal(report.published, PLAN.length - 1);
  });

  test('counts the records of replays apart: they repeat rows, and stand for none', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const copies = records.map((record) => ({ ...record, replayed: true }));
    const copied = { ...copies[0], id: 'a new id' } as PublishedRecord;
    const report = await countIntegrity(rows, renumber([...records, ...copies, copied]));
    assert.ok(isSound(report), JSON.stringify(report));
    assert.equal(report.replayed, PLAN.length + 1);
    const lost = await countIntegrity(rows, renumber([...records.slice(1), ...copies]));
    assert.deepEqual([lost.missing, lost.published], [1, PLAN.length - 1]);
    const spoilt = await countIntegrity(rows, renumber([...records, ...replaceAt(copies, 0, { decoded: false })]));
    assert.equal(spoilt.undecodable, 1);
  });

  test('takes what was released for published, whichever of its records is read first', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const dead = records.slice(2, 4).map(asDeadLetter);
    const again = dead.map((record) => ({ ...record, release: 'key' as const }));
    const released = records.map((record, i) => (i === 2 || i === 3 ? { ...record, release: 'key' as const } : record));
    for (const order of [
      [...released, ...dead, ...again],
      [...dead, ...again, ...released],
    ]) {
      const report = await countIntegrity(rows, renumber(order));
      assert.ok(isSound(report), JSON.stringify(report));
      assert.deepEqual([report.published, report.released, report.deadLettered], [PLAN.length, 2, 0]);
    }
  });

  test('expects no order of one that was released alone, and does of those around it', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const [first, ...others] = records;
    assert.ok(first !== undefined);
    const late = [...others, { ...first, release: 'alone' as const }, asDeadLetter(first)];
    assert.ok(isSound(await countIntegrity(rows, renumber(late))));
  });

  test('treats equal ids of two aggregate types as two aggregates', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    const customers = rows.map((row) => ({ ...row, id: `customer-${row.id}`, aggregateType: 'customer' }));
    const theirs = records.map((record) => ({ ...record, topic: 'commerce.customer', id: `customer-${record.id}` }));
    const report = await countIntegrity([...rows, ...customers], [...records, ...theirs]);
    assert.ok(isSound(report), JSON.stringify(report));
  });

  test('cannot call a record without version and position in order', async () => {
    const { rows, records } = soundHistory(
      [PLAN[0], PLAN[2]].filter((step) => step !== undefined),
      false,
    );
    const report = await countIntegrity(rows, replaceAt(records, 1, { position: null }));
    assert.equal(report.outOfOrder, 1);
  });

  test('reads asynchronous streams', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    async function* stream<T>(items: readonly T[]) {
      for (const item of items) yield item;
    }
    assert.equal((await countIntegrity(stream(rows), stream(records))).published, PLAN.length);
  });

  test('names only a few examples and counts all', async () => {
    const { rows } = soundHistory(
      Array.from({ length: 50 }, (_, index) => ({ aggregate: index, rowsInCommit: false })),
      true,
    );
    const report = await countIntegrity(rows, []);
    assert.equal(report.missing, 50);
    assert.equal(report.examples.missing.length, 10);
  });

  test('refuses records that were not read in order, and a ledger that repeats itself', async () => {
    const { rows, records } = soundHistory(PLAN, true);
    await assert.rejects(countIntegrity(rows, [...records].reverse()), /not read in order/);
    await assert.rejects(countIntegrity([...rows, ...rows], records), /twice/);
  });
});
