/**
 * What becomes of each record of a piece of work, whatever the inbox and the handlers answer: no record is let go of that is neither applied
 * nor dead-lettered, and none is dead-lettered before one of its key that comes again.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { pino } from 'pino';
import type { Delivery, Outcome } from '../../../src/inbox/applier.ts';
import { type Failure, NonRetryableError } from '../../../src/inbox/failure.ts';
import { KeyScheduler, type QueuedRecord, queuedRecord, type Work } from '../../../src/inbox/key-scheduler.ts';
import { Processor, type ProcessorOptions } from '../../../src/inbox/processor.ts';
import { PutBackEvents } from '../../../src/inbox/put-back.ts';
import type { RetryPolicy } from '../../../src/inbox/retry-policy.ts';
import type { LogRecord } from '../../../src/kafka/log-reader.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import type { ResolvingDecoder } from '../../../src/registry/decoder.ts';
import { eventId, quiet } from '../../support/relay-fixtures.ts';

const RETRY = { maxTries: 3, baseMs: 10, maxMs: 1_000 };
const failure = (kind: Failure['kind'], code = 'X'): Failure => ({
  kind,
  type: 'Error',
  code,
  message: 'no',
  stack: '',
});
const AWAY = failure('away', 'PART_UNREACHABLE');
const TOO_OLD = failure('permanent', 'TOO_OLD_TO_DEDUPE');

/** What the value of a record says about reading it. */
type Readability = 'event' | 'unreadable' | 'too-old' | 'registry-away' | 'broken-decoder' | 'unheard';

const decoder: ResolvingDecoder = {
  decode: async (value) => {
    const says = value.toString() as Readability;
    if (says === 'unreadable') throw new FerryError('SCHEMA_MISMATCH', 'no');
    if (says === 'registry-away') throw new FerryError('REGISTRY_UNAVAILABLE', 'no');
    if (says === 'broken-decoder') throw new TypeError('no');
    return { schemaId: 1, type: 'test.Happened', value: says };
  },
};

let records = 0;
function record(key: string, says: Readability = 'event'): LogRecord {
  const n = records++;
  const headers = {
    ce_id: eventId(n),
    ce_type: says === 'unheard' ? 'test.Unheard' : 'test.Happened',
    ferry_recorded_at: says === 'too-old' ? '2000-01-01T00:00:00Z' : '2026-01-02T03:04:05Z',
  };
  const place = { topic: 't', partition: 0, offset: BigInt(n), timestampMs: 0 };
  return { ...place, key: Buffer.from(key), value: Buffer.from(says), headers };
}

/** All of it in one piece of work. */
function workOf(...all: LogRecord[]): Work {
  const keys = new KeyScheduler();
  for (const item of all) keys.push(queuedRecord(item, 1));
  const work = keys.take(0, { maxRecords: 1_000, maxBytes: 1_000, aloneAllowed: true });
  assert.ok(work !== null);
  return work;
}

type Answer = (deliveries: readonly Delivery[]) => Outcome<Delivery>;

class Bench {
  readonly deadLettered: QueuedRecord[] = [];
  readonly followed: QueuedRecord[] = [];
  readonly tries: number[] = [];
  readonly warnings: string[] = [];
  readonly processor: Processor;
  forgotten = 0;
  poisonFails = false;
  keyStillParked = true;

  constructor(
    answer: Answer = (deliveries) => ({ kind: 'applied', applied: deliveries.length, putBack: [] }),
    retry: RetryPolicy = RETRY,
  ) {
    const poison: ProcessorOptions['poison'] = {
      deadLetter: async (poisoned) => {
        if (this.poisonFails) throw new Error('Kafka is away');
        this.deadLettered.push(...poisoned.map(({ queued }) => queued));
        return poisoned.map(({ queued }) => ({ queued, eventId: queued.record.headers.ce_id ?? '' }));
      },
      follow: async (all) => {
        if (this.poisonFails) throw Object.assign(new Error('no partition'), { code: '23514' });
        if (this.keyStillParked) this.followed.push(...all);
        return this.keyStillParked;
      },
    };
    this.processor = new Processor({
      ...quiet,
      logger: pino({ base: null }, { write: (line) => this.warnings.push((JSON.parse(line) as { msg: string }).msg) }),
      group: 'g',
      handlers: new Map([['test.Happened', async () => {}]]),
      decoder,
      applier: {
        apply: async <D extends Delivery>(deliveries: readonly D[], attempt: number) => {
          this.tries.push(attempt);
          return answer(deliveries) as Outcome<D>;
        },
      },
      poison,
      horizon: {
        refresh: async () => {},
        refusalOf: (recordedAt) => (recordedAt < '2020' ? TOO_OLD : null),
        forget: () => {
          this.forgotten += 1;
        },
      },
      retry,
    });
  }
}

const failing =
  (kind: Failure['kind'], suspects: (deliveries: readonly Delivery[]) => readonly Delivery[]): Answer =>
  (deliveries) => ({ kind: 'failed', failure: failure(kind), suspects: suspects(deliveries) });
/** Of which the verdict is that. */
const errorOf = (verdict: Failure['kind']) => (verdict === 'permanent' ? new NonRetryableError('no') : new Error('no'));
/** All but these, and what stands behind them. */
const puttingBack =
  (error: Error, chosen: (deliveries: readonly Delivery[]) => readonly Delivery[]): Answer =>
  (deliveries) => {
    const failed = new PutBackEvents<Delivery>();
    for (const { event } of chosen(deliveries)) failed.add(deliveries, event, error);
    const putBack = failed.of(deliveries);
    return { kind: 'applied', applied: deliveries.length - putBack.length, putBack };
  };
const first = (deliveries: readonly Delivery[]) => deliveries.slice(0, 1);
const last = (deliveries: readonly Delivery[]) => deliveries.slice(-1);

describe('a piece of work', () => {
  test('that is applied is done, with what no handler wants', async () => {
    const done = await new Bench().processor.process(workOf(record('a'), record('b', 'unheard')));
    assert.deepEqual(done, { undone: [], away: null });
  });

  test('whose keys wait for the registry tells so once, not for each of them', async () => {
    const bench = new Bench();
    const work = () => workOf(record('a', 'registry-away'), record('b', 'registry-away'), record('c'));
    for (let turn = 0; turn < 2; turn++) assert.equal((await bench.processor.process(work())).undone.length, 2);
    assert.deepEqual(bench.warnings, ['records cannot be decoded yet; their keys wait']);
  });

  test('comes again as a whole when a part is away, unreadable records too', async () => {
    const bench = new Bench(() => ({ kind: 'away', failure: AWAY, suspects: [] }));
    const work = workOf(record('a'), record('b', 'unreadable'), record('c', 'too-old'));
    assert.deepEqual(await bench.processor.process(work), { undone: work.records, away: AWAY });
    assert.deepEqual(bench.deadLettered, []);
  });

  test('asks for the days of the inbox again when one was missing', async () => {
    const bench = new Bench(() => ({ kind: 'away', failure: failure('away', '23514'), suspects: [] }));
    await bench.processor.process(workOf(record('a')));
    assert.equal(bench.forgotten, 1);
  });

  test('of parked keys goes to the dead-letter topic next time', async () => {
    const work = workOf(record('a'), record('b'));
    const bench = new Bench(() => ({
      kind: 'parked',
      keys: [{ topic: 't', key: Buffer.from('b'), eventId: 'the event' }],
    }));
    const { undone } = await bench.processor.process(work);
    assert.deepEqual(undone, work.records);
    assert.deepEqual(
      work.queues.map(({ parkedBehind }) => parkedBehind),
      [null, 'the event'],
    );
  });
});

describe('an event that fails', () => {
  test('of a type with a number of tries of its own is dead-lettered after so many', async () => {
    const bench = new Bench(failing('transient', first), { ...RETRY, triesOf: () => 1 });
    const work = workOf(record('a'));
    await bench.processor.process(work);
    assert.deepEqual(bench.deadLettered, work.records);
  });

  test('is tried alone after a pause, and dead-lettered at its last try', async () => {
    const bench = new Bench(failing('transient', first));
    const work = workOf(record('a'));
    const [queued] = work.records;
    for (let attempt = 1; attempt < RETRY.maxTries; attempt++) {
      const before = performance.now();
      assert.deepEqual((await bench.processor.process(work)).undone, [queued]);
      assert.ok((work.queues[0]?.notBeforeMs ?? 0) >= before + (RETRY.baseMs / 2) * 2 ** (attempt - 1));
      assert.deepEqual([queued?.suspect, queued?.failures], [true, attempt]);
    }
    assert.deepEqual((await bench.processor.process({ ...work, kind: 'alone' })).undone, []);
    assert.deepEqual(bench.deadLettered, [queued]);
    assert.equal(bench.tries.at(-1), RETRY.maxTries);
    assert.equal(work.queues[0]?.parkedBehind, queued?.record.headers.ce_id);
  });

  test('for good behind one of its key waits for that one to be applied', async () => {
    const bench = new Bench(failing('permanent', last));
    const work = workOf(record('a'), record('a'));
    assert.deepEqual((await bench.processor.process(work)).undone, work.records);
    assert.deepEqual(bench.deadLettered, []);
    assert.deepEqual(
      work.records.map(({ suspect, failures }) => [suspect, failures]),
      [
        [false, 0],
        [true, 0],
      ],
    );
  });

  test('for good at the front of its key is dead-lettered, and the others come again', async () => {
    const bench = new Bench(failing('permanent', first));
    const work = workOf(record('a'), record('a'), record('b'));
    assert.deepEqual((await bench.processor.process(work)).undone, work.records.slice(1));
    assert.deepEqual(bench.deadLettered, work.records.slice(0, 1));
  });

  test('among several suspects is looked for one by one, and nobody has had a try', async () => {
    const bench = new Bench(failing('permanent', (deliveries) => deliveries));
    const work = workOf(record('a'), record('b'));
    assert.deepEqual((await bench.processor.process(work)).undone, work.records);
    assert.deepEqual(
      work.records.map(({ suspect, failures }) => [suspect, failures]),
      [
        [true, 0],
        [true, 0],
      ],
    );
  });

  test('by losing the connection each time is tried alone, and dead-lettered in the end', async () => {
    const bench = new Bench((deliveries) => ({ kind: 'away', failure: AWAY, suspects: first(deliveries) }));
    const work = workOf(record('a'));
    const [queued] = work.records;
    let losses = 0;
    while (bench.deadLettered.length === 0) {
      const { away } = await bench.processor.process(work);
      losses += 1;
      assert.equal(away === null, bench.deadLettered.length > 0);
      assert.equal(queued?.suspect, losses >= 3);
    }
    assert.equal(losses, 10);
  });
});

describe('events that a batch went on without', () => {
  test('have had their try and come again after a pause, with what stands behind them', async () => {
    const bench = new Bench(puttingBack(errorOf('transient'), first));
    const work = workOf(record('a'), record('a'), record('b'));
    const before = performance.now();
    assert.deepEqual((await bench.processor.process(work)).undone, work.records.slice(0, 2));
    assert.deepEqual(
      work.records.map(({ suspect, failures }) => [suspect, failures]),
      [
        [true, 1],
        [false, 0],
        [false, 0],
      ],
    );
    assert.ok((work.queues[0]?.notBeforeMs ?? 0) >= before + RETRY.baseMs / 2);
    assert.equal(work.queues[1]?.notBeforeMs, 0);
  });

  test('for good are dead-lettered, and what stands behind them comes again', async () => {
    const bench = new Bench(puttingBack(errorOf('permanent'), first));
    const work = workOf(record('a'), record('a'), record('b'));
    assert.deepEqual((await bench.processor.process(work)).undone, work.records.slice(1, 2));
    assert.deepEqual(bench.deadLettered, work.records.slice(0, 1));
  });

  test('are each counted by itself', async () => {
    const bench = new Bench(puttingBack(errorOf('transient'), (deliveries) => deliveries));
    const work = workOf(record('a'), record('b'));
    assert.deepEqual((await bench.processor.process(work)).undone, work.records);
    assert.deepEqual(
      work.records.map(({ failures }) => failures),
      [1, 1],
    );
  });
});

describe('a record that cannot be read', () => {
  for (const says of ['unreadable', 'too-old', 'broken-decoder'] as const) {
    test(`(${says}) is dead-lettered, and what stands behind it in its key comes again`, async () => {
      const bench = new Bench();
      const work = workOf(record('a', says), record('a'), record('b'));
      assert.deepEqual((await bench.processor.process(work)).undone, work.records.slice(1, 2));
      assert.deepEqual(bench.deadLettered, work.records.slice(0, 1));
    });
  }

  test('yet holds up its key and no other', async () => {
    const bench = new Bench();
    const work = workOf(record('a', 'registry-away'), record('a'), record('b'));
    assert.deepEqual(await bench.processor.process(work), { undone: work.records.slice(0, 2), away: null });
    assert.deepEqual(
      work.queues.map(({ notBeforeMs }) => notBeforeMs > 0),
      [true, false],
    );
  });
});

describe('dead letters that cannot be written', () => {
  test('come again, and only their keys wait', async () => {
    const bench = new Bench();
    bench.poisonFails = true;
    const work = workOf(record('a', 'unreadable'), record('b'));
    assert.deepEqual(await bench.processor.process(work), { undone: work.records.slice(0, 1), away: null });
    assert.deepEqual(
      work.queues.map(({ notBeforeMs }) => notBeforeMs > 0),
      [true, false],
    );
  });
});

describe('events of a parked key', () => {
  function parkedWork(...all: LogRecord[]): Work {
    const work = workOf(...all);
    for (const queue of work.queues) queue.parkedBehind = 'the event';
    return { ...work, kind: 'parked' };
  }

  test('follow, but for those that nobody wants', async () => {
    const bench = new Bench();
    const work = parkedWork(record('a'), record('a', 'unheard'), record('a', 'unreadable'));
    assert.deepEqual(await bench.processor.process(work), { undone: [], away: null });
    assert.deepEqual(bench.followed, [work.records[0], work.records[2]]);
  });

  test('come again as events when the key is parked no more', async () => {
    const bench = new Bench();
    bench.keyStillParked = false;
    const work = parkedWork(record('a'));
    assert.deepEqual(await bench.processor.process(work), { undone: work.records, away: null });
    assert.equal(work.queues[0]?.parkedBehind, null);
  });

  test('wait while they cannot be written, and hold up no other key', async () => {
    const bench = new Bench();
    bench.poisonFails = true;
    const work = parkedWork(record('a'));
    assert.deepEqual(await bench.processor.process(work), { undone: work.records, away: null });
    assert.ok((work.queues[0]?.notBeforeMs ?? 0) > 0);
    assert.equal(bench.forgotten, 1); // a day may have been dropped
  });
});

test('whatever happens, each record is applied, dead-lettered, passed over or comes again, and no key is overtaken', async () => {
  const says = fc.constantFrom<Readability>(
    'event',
    'event',
    'event',
    'unreadable',
    'too-old',
    'registry-away',
    'unheard',
  );
  const arrival = fc.record({ key: fc.constantFrom('a', 'b', 'c'), says });
  const outcome = fc.record({
    kind: fc.constantFrom('applied', 'put-back', 'parked', 'failed', 'away'),
    verdict: fc.constantFrom<Failure['kind']>('transient', 'permanent'),
    from: fc.nat(8),
    count: fc.integer({ min: 1, max: 3 }),
    poisonFails: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(arrival, { minLength: 1, maxLength: 9 }), outcome, async (arrivals, chosen) => {
      let applied: readonly Delivery[] = [];
      const bench = new Bench((deliveries) => {
        const suspects = deliveries.slice(chosen.from % Math.max(1, deliveries.length)).slice(0, chosen.count);
        if (chosen.kind === 'failed' && suspects.length > 0)
          return { kind: 'failed', failure: failure(chosen.verdict), suspects };
        if (chosen.kind === 'away') return { kind: 'away', failure: AWAY, suspects };
        if (chosen.kind === 'parked' && suspects.length > 0)
          return {
            kind: 'parked',
            keys: suspects.map(({ key }) => ({ topic: 't', key: key ?? Buffer.of(), eventId: 'e' })),
          };
        const failed = new PutBackEvents<Delivery>();
        if (chosen.kind === 'put-back') {
          for (const { event } of suspects) failed.add(deliveries, event, errorOf(chosen.verdict));
        }
        const putBack = failed.of(deliveries);
        applied = deliveries.filter((one) => !putBack.some(({ delivery }) => delivery === one));
        return { kind: 'applied', applied: applied.length, putBack };
      });
      bench.poisonFails = chosen.poisonFails;
      const work = workOf(...arrivals.map(({ key, says }) => record(key, says)));
      const { undone } = await bench.processor.process(work);
      const isApplied = ({ record: { offset } }: QueuedRecord) =>
        applied.some(({ event }) => event.source.offset === offset);
      const isUnheard = ({ record: { value } }: QueuedRecord) => String(value) === 'unheard';
      for (const queued of work.records) {
        const fates = [undone.includes(queued), bench.deadLettered.includes(queued), isApplied(queued)];
        const count = fates.filter(Boolean).length;
        assert.ok(count === 1 || (count === 0 && isUnheard(queued)), `${queued.record.offset}: ${fates}`);
      }
      assert.deepEqual(
        undone,
        work.records.filter((queued) => undone.includes(queued)),
      );
      for (const [i, queued] of work.records.entries()) {
        if (!bench.deadLettered.includes(queued) && !isApplied(queued)) continue;
        const before = work.records.slice(0, i).filter(({ keyId }) => keyId === queued.keyId);
        assert.ok(!before.some((other) => undone.includes(other)), 'overtaken');
      }
    }),
    { numRuns: 500 },
  );
});
