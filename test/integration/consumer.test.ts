/**
 * The consumer kit on the real parts: each event has its effect once, whatever Kafka delivers again and whoever produced it, in the form that
 * the handler's schema asks for.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SpanStatusCode } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { v7 as uuidv7 } from 'uuid';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import { CONSUMER_DEFAULTS } from '../../src/inbox/event-consumer.ts';
import type { AnyHandler } from '../../src/inbox/handler.ts';
import { dropInboxPartitions } from '../../src/postgres/partitions.ts';
import { COUNTED, ConsumerLab, type LabRecord } from '../support/consumer-lab.ts';
import { createRandom } from '../support/random.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const stack = await testStack();
const DAY_MS = 86_400_000;
const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS).toISOString();
const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

describe('effectively once', { concurrency: 4 }, () => {
  test('records that come again, in any order and mixed among the others, have their effect once', async () => {
    const lab = await ConsumerLab.open(stack, { partitions: 3 });
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = createRandom(seed);
    const events = upTo(300).map((n) => ({ key: `k${n % 20}`, n, id: uuidv7(), recordedAt: daysAgo(0) }));
    const copies = events.filter(() => random.chance(0.4)).map((event) => ({ ...event, partition: 0 })); // a key's of any partition
    const sent = [...events, ...copies].map((event) => ({ event, place: random.next() }));
    const shuffled = sent.toSorted((a, b) => a.place - b.place).map(({ event }) => event);
    lab.start({ settings: { maxBatchEvents: 16 } });
    for (let i = 0; i < shuffled.length; i += 60) await lab.send(shuffled.slice(i, i + 60));
    await lab.untilEffects(300);
    await lab.untilDone();
    const expected = events.map(({ key, n }) => key + n).sort();
    assert.deepEqual((await lab.effects()).sort(), expected, `seed ${seed}`);
  });

  test('offsets that go back change nothing', async () => {
    const lab = await ConsumerLab.open(stack);
    const first = lab.start();
    await lab.send(upTo(50).map((n) => ({ key: `k${n % 5}`, n })));
    await lab.untilDone();
    await first.stop();
    await lab.resetOffsets();
    lab.start();
    await lab.send([{ key: 'k1', n: 51 }]);
    await lab.untilEffects(51);
    await lab.untilDone();
    assert.equal((await lab.effects()).length, 51);
  });

  test('the events of a key keep their order while keys are worked on side by side', async () => {
    const lab = await ConsumerLab.open(stack);
    const transactions = new Set<string>();
    lab.start({
      handle: async (event, tx) => {
        await lab.effect(event, tx);
        const { rows } = await tx.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
        transactions.add(rows[0]?.xid ?? '');
      },
      settings: { maxBatchEvents: 7 },
    });
    const keys = upTo(12).map((i) => `k${i}`);
    await lab.send(upTo(40).flatMap((n) => keys.map((key) => ({ key, n }))));
    await lab.untilEffects(480);
    await lab.untilDone();
    for (const key of keys) assert.deepEqual(await lab.effectsOf(key), upTo(40));
    assert.ok(transactions.size >= 480 / 7, 'larger batches than allowed');
  });

  test('while a batch is under way the next one gathers', async () => {
    const lab = await ConsumerLab.open(stack);
    const transactions = new Map<number, string>();
    const gate = Promise.withResolvers<void>();
    lab.start({
      handle: async (event, tx) => {
        await lab.effect(event, tx);
        const { rows } = await tx.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
        transactions.set(event.value.n, rows[0]?.xid ?? '');
        if (event.value.n === 1) await gate.promise;
      },
    });
    await lab.send([{ key: 'k1', n: 1 }]);
    await waitUntil('the first one being under way', async () => transactions.has(1));
    const startedAt = performance.now();
    for (let n = 2; n <= 40; n++) await lab.send([{ key: `k${n}`, n }]);
    await lab.untilEffects(39);
    const tookMs = performance.now() - startedAt;
    gate.resolve();
    await lab.untilEffects(40);
    const batches = new Set(transactions.values()).size - 1;
    const most = 2 + tookMs / CONSUMER_DEFAULTS.gatherMs; // one may begin as often as that
    assert.ok(batches <= most, `39 events in ${batches} transactions within ${Math.round(tookMs)} ms`);
  });

  test('records of a foreign producer are events if they have an id, and harm nobody if they are nonsense', async () => {
    const lab = await ConsumerLab.open(stack);
    const seen = new Map<number, ConsumedEvent>();
    lab.start({
      handle: async (event, tx) => {
        seen.set(event.value.n, event);
        await lab.effect(event, tx);
      },
    });
    const future = uuidv7({ msecs: Date.UTC(2120, 0, 1) });
    const bare = { ce_type: null, ferry_recorded_at: null };
    await lab.send([
      { key: 'k', n: 1, headers: bare },
      { key: 'k', n: 2, headers: { 'x-bytes': Buffer.from([0xff, 0xfe]) } },
      { key: 'k', n: 3, headers: { ferry_recorded_at: '2120-01-01T00:00:00Z' } },
      { key: 'k', n: 4, id: future, headers: { ferry_recorded_at: null } },
      { key: 'k', n: 5, headers: { ferry_recorded_at: 'tomorrow', ferry_aggregate_version: '-1' } },
      { key: 'k', n: 6, value: Buffer.from([0, 0, 0, 0, 99, 1]) },
      { key: 'other', n: 7 },
      { key: null, n: 8 },
    ]);
    await lab.untilEffects(5);
    const letters = await lab.untilDeadLetters(3);
    await lab.untilDone();
    assert.deepEqual([...seen.keys()].sort(), [1, 2, 5, 7, 8]);
    assert.deepEqual(letters.map(({ headers }) => headers.error_code).sort(), [
      'EVENT_MALFORMED',
      'EVENT_MALFORMED',
      'SCHEMA_UNKNOWN',
    ]);
    const { type, aggregateType, aggregateVersion, aggregateId } = seen.get(1) ?? {};
    assert.deepEqual([type, aggregateType, aggregateVersion, aggregateId], [COUNTED, null, null, 'k']);
    assert.equal(seen.get(5)?.aggregateVersion, null);
  });

  test('a handler continues the trace, and has one key for its calls at every try', async () => {
    const lab = await ConsumerLab.open(stack);
    const exporter = new InMemorySpanExporter();
    const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
    const seen: Array<{ attempt: number; traceparent: string | null; key: string }> = [];
    lab.start({
      tracer: provider.getTracer('test'),
      handle: async (event, tx, context) => {
        const { attempt, traceparent } = context;
        seen.push({ attempt, traceparent, key: context.idempotencyKey(event, 'charge') });
        assert.notEqual(context.idempotencyKey(event, 'ship'), context.idempotencyKey(event, 'charge'));
        if (attempt === 1) throw new Error('not yet');
        await lab.effect(event, tx, attempt);
      },
    });
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    await lab.send([{ key: 'k', n: 1, headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } }]);
    await lab.untilEffects(1);
    await lab.untilDone();
    const spans = exporter.getFinishedSpans();
    assert.deepEqual(
      seen.map(({ attempt, traceparent }) => [attempt, traceparent]),
      spans.map((span, i) => [i + 1, `00-${traceId}-${span.spanContext().spanId}-01`]),
    );
    assert.equal(new Set(seen.map(({ key }) => key)).size, 1);
    assert.deepEqual(
      spans.map(({ name, status }) => [name, status.code]),
      [
        ['ferry.consume', SpanStatusCode.ERROR],
        ['ferry.consume', SpanStatusCode.UNSET],
      ],
    );
  });

  test('tombstones come as null, and types without a handler are passed over unread', async () => {
    const lab = await ConsumerLab.open(stack);
    const values: unknown[] = [];
    lab.start({
      handlers: {
        'lab.Erased': async (event: ConsumedEvent) => {
          values.push(event.value);
        },
      },
    });
    await lab.send([
      { key: 'k', n: 1, value: null, headers: { ce_type: 'lab.Erased' } },
      { key: 'k', n: 2, value: Buffer.from('not ours to read'), headers: { ce_type: 'lab.Unheard' } },
      { key: 'k', n: 3, value: null, headers: { ce_type: null } },
      { key: 'k', n: 4 },
    ]);
    await lab.untilDone();
    assert.deepEqual(values, [null]);
    assert.deepEqual(await lab.effects(), ['k4']);
    assert.deepEqual(await lab.deadLetters(), []);
    assert.equal((await lab.inbox()).size, 2);
  });
});

describe('what the inbox remembers', { concurrency: 2 }, () => {
  test('events older than that are dead-lettered, never applied, and hold up nobody', async () => {
    const lab = await ConsumerLab.open(stack);
    lab.start({ settings: { inboxRetentionDays: 30 } });
    const old = { key: 'k', n: 2, recordedAt: daysAgo(60), id: uuidv7() };
    await lab.send([{ key: 'k', n: 1 }, old, { key: 'k', n: 3 }, { key: 'o', n: 1 }, old]);
    await lab.untilEffects(3);
    await lab.untilDone();
    assert.deepEqual((await lab.effects()).sort(), ['k1', 'k3', 'o1']);
    const letters = await lab.deadLetters();
    assert.deepEqual(
      letters.map(({ headers }) => [headers.ce_id, headers.error_code, headers.replayable]),
      [
        [old.id, 'TOO_OLD_TO_DEDUPE', 'false'],
        [old.id, 'TOO_OLD_TO_DEDUPE', 'false'],
      ],
    );
    assert.deepEqual(await lab.parked(), []);
  });

  test('days are dropped under load: each event is applied once or dead-lettered', async () => {
    const lab = await ConsumerLab.open(stack, { databaseUrl: await stack.createDatabase() });
    lab.start({ settings: { maxBatchEvents: 20 } });
    const events = upTo(600).map((n) => ({ key: `k${n % 30}`, n, id: uuidv7(), recordedAt: daysAgo(n % 20) }));
    for (const [i, daysKept] of [18, 12, 5].entries()) {
      await lab.send(events.slice(i * 200, i * 200 + 200));
      await waitUntil('some of it', async () => (await lab.effects()).length > i * 100);
      await dropInboxPartitions(lab.pool, daysKept);
    }
    await lab.untilDone();
    const effects = await lab.effects();
    assert.equal(new Set(effects).size, effects.length, 'an effect happened twice');
    const letters = await lab.deadLetters();
    assert.ok(letters.every(({ headers }) => headers.error_code === 'TOO_OLD_TO_DEDUPE'));
    const places = new Map(events.map(({ id, key, n }) => [id, key + n]));
    const dead = new Set(letters.map(({ headers }) => places.get(headers.ce_id ?? '')));
    assert.deepEqual([...effects, ...dead].sort(), [...places.values()].sort());
    assert.deepEqual(await lab.parked(), []);
  });
});

describe('schemas', { concurrency: 4 }, () => {
  const record = (fields: object[]) => ({ type: 'record', name: COUNTED, fields });
  const N = { name: 'n', type: 'int' };
  const NOTE = { name: 'note', type: 'string', default: '' };

  /** What a handler with this reader schema gets of a value of the writer's. */
  async function read(
    writer: object,
    value: object,
    reader: object | null,
  ): Promise<{ lab: ConsumerLab; got: unknown[] }> {
    const lab = await ConsumerLab.open(stack);
    const got: unknown[] = [];
    const handle = async (event: ConsumedEvent) => {
      got.push(event.value);
    };
    const handler: AnyHandler = reader === null ? handle : { handle, readerSchema: JSON.stringify(reader) };
    lab.start({ handlers: { [COUNTED]: handler } });
    const schema = await lab.register(writer);
    await lab.send([{ key: 'k', n: 1, value: lab.encode(schema, value) }]);
    await lab.untilDone();
    return { lab, got };
  }

  test('a reader newer than the writer has its defaults, and not what it dropped', async () => {
    const unit = { name: 'unit', type: ['null', 'string'], default: null };
    const { got } = await read(record([N, NOTE]), { n: 1, note: 'x' }, record([N, unit]));
    assert.deepEqual(got, [{ n: 1, unit: null }]);
  });

  test('a reader older than the writer does not see what it does not know', async () => {
    const { got } = await read(
      record([N, { name: 'weight', type: 'double' }]),
      { n: 1, weight: 2.5 },
      record([N, NOTE]),
    );
    assert.deepEqual(got, [{ n: 1, note: '' }]);
  });

  test('without a reader schema values come as they were written', async () => {
    const { got } = await read(record([N, { name: 'weight', type: 'double' }]), { n: 1, weight: 2.5 }, null);
    assert.deepEqual(got, [{ n: 1, weight: 2.5 }]);
  });

  test('a reader that cannot read the writer parks the key', async () => {
    const { lab, got } = await read(record([N]), { n: 1 }, record([N, { name: 'weight', type: 'double' }]));
    assert.deepEqual(got, []);
    const [letter] = await lab.deadLetters();
    assert.deepEqual([letter?.headers.error_code, letter?.headers.replayable], ['SCHEMA_INCOMPATIBLE', 'false']);
    assert.equal((await lab.parked())[0]?.error_code, 'SCHEMA_INCOMPATIBLE');
  });
});

describe('while the registry is away', { concurrency: 2 }, () => {
  /** A consumer that has met the usual schema, and values of one that it has not. */
  async function begin() {
    const lab = await ConsumerLab.open(stack);
    const url = new URL(stack.registryUrl);
    const proxy = await TcpProxy.start({ host: url.hostname, port: Number(url.port) });
    lab.start({ registryUrl: proxy.through(stack.registryUrl), registryTimeoutMs: 1_000 });
    await lab.send([{ key: 'a', n: 1 }]);
    await lab.untilEffects(1);
    const fresh = await lab.register({ type: 'record', name: COUNTED, fields: [{ name: 'n', type: 'long' }] });
    const unknown = (key: string, n: number): LabRecord => ({ key, n, value: lab.encode(fresh, { n }) });
    return { lab, proxy, unknown };
  }

  test('events of known schemas go on and the others wait', async () => {
    const { lab, proxy, unknown } = await begin();
    try {
      proxy.setMode('refuse');
      proxy.cut();
      const b = [unknown('b', 1), { key: 'b', n: 2 }, unknown('b', 3)];
      await lab.send([{ key: 'a', n: 2 }, ...b, { key: 'c', n: 1 }, { key: 'a', n: 3 }]);
      await lab.untilEffects(4);
      assert.deepEqual((await lab.effects()).sort(), ['a1', 'a2', 'a3', 'c1']);
      proxy.setMode('pass');
      await lab.untilEffects(7);
      await lab.untilDone();
      assert.deepEqual(await lab.effectsOf('b'), [1, 2, 3]);
      assert.deepEqual(await lab.deadLetters(), []);
    } finally {
      await proxy.close();
    }
  });

  test('and silent, they go on too: it is not waited for again for each of the others', async () => {
    const { lab, proxy, unknown } = await begin();
    try {
      proxy.setMode('stall');
      const waiting = upTo(30).map((n) => unknown(`b${n}`, n));
      await lab.send(upTo(30).flatMap((n) => [{ key: `a${n}`, n }, ...waiting.slice(n - 1, n)]));
      await lab.untilEffects(31, { deadlineMs: 15_000 });
      proxy.setMode('pass');
      await lab.untilEffects(61);
      await lab.untilDone();
      assert.deepEqual(await lab.deadLetters(), []);
    } finally {
      await proxy.close();
    }
  });
});
