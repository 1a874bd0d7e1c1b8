/** The two loops: one Kafka transaction at a time while the next batch gathers, and a stop that finishes what is in flight. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { EventTiers } from '../../../src/config/tiers.ts';
import type { Change } from '../../../src/events/change-stream.ts';
import { controlPrefix, sealControl } from '../../../src/events/control-message.ts';
import type { EncodeResult, EventEncoder } from '../../../src/events/encoder.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import { noFailPoints } from '../../../src/kernel/fail-point.ts';
import type { ControlHandlers } from '../../../src/relay/control-gate.ts';
import { Intake } from '../../../src/relay/intake.ts';
import { Publisher } from '../../../src/relay/publisher.ts';
import { RecordFactory } from '../../../src/relay/record-factory.ts';
import { Streaming } from '../../../src/relay/streaming.ts';
import { MemoryKafka } from '../../support/memory-sink.ts';
import {
  batchEntry,
  CONTROL_KEY,
  checkpoint,
  controlGate,
  lsn,
  noneParked,
  outboxEvent,
  plainEncoder,
  quiet,
  routes,
} from '../../support/relay-fixtures.ts';
import { waitUntil } from '../../support/signals.ts';
import { HEARTBEAT_PREFIX, heartbeat, historyStart, transaction } from '../../support/wal-history.ts';

const NONCE = 'b4c1e6f2-6f0e-4e8f-9b43-3b9e1d5a7c10';

/** Kafka transactions that wait for the test to let each of them commit. */
class Commits {
  inFlight = 0;
  most = 0;
  readonly #waiting: Array<() => void> = [];
  #held = true;

  async pass(): Promise<void> {
    this.inFlight += 1;
    this.most = Math.max(this.most, this.inFlight);
    if (this.#held) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.inFlight -= 1;
  }

  letOne(): void {
    this.#waiting.shift()?.();
  }

  letAll(): void {
    this.#held = false;
    for (const go of this.#waiting.splice(0)) go();
  }
}

async function start(
  options: { encoder?: EventEncoder; controls?: ControlHandlers; maxEvents?: number; lingerMs?: number } = {},
) {
  const kafka = new MemoryKafka();
  const commits = new Commits();
  kafka.beforeCommit = () => commits.pass();
  const sink = await kafka.open('cp')({ name: 'main', transactionalId: 'ferry.main' });
  await sink.fence(async () => {});
  await sink.meet('t.shop.order');
  const control = { query: async () => ({ rows: [], rowCount: 0 }) };
  const first = checkpoint({ endLsn: historyStart });
  const publisher = new Publisher({ sink, control, ...quiet, failPoint: noFailPoints }, first);
  const encoder = options.encoder ?? plainEncoder;
  const poison = { parked: noneParked(), tiers: new EventTiers() };
  const factory = new RecordFactory({
    encoder,
    routes,
    topics: sink,
    ...poison,
    source: 'test',
    maxEventBytes: 10_000,
  });
  const intake: Intake = new Intake(first, {
    ...{
      maxBytes: 1_000_000,
      heartbeatPrefix: HEARTBEAT_PREFIX,
      controls: controlGate,
      pause() {},
      resume() {},
      onEvent() {},
    },
    ...{ onKeepalive() {}, onIgnored() {}, onRefusal: assert.fail, onItem: () => streaming.wake() },
  });
  const told: string[] = [];
  const streaming = new Streaming({
    ...{
      intake,
      factory,
      publisher,
      gate: controlGate,
      controls: options.controls ?? {},
      lingerMs: options.lingerMs ?? 0,
      metrics: quiet.metrics,
    },
    limits: { maxEvents: options.maxEvents ?? 100, maxBytes: 1_000_000 },
    onCommitted: (heartbeats) => told.push(`${publisher.checkpoint.endLsn} ${heartbeats}`.trim()),
  });
  const running = streaming.run();
  running.catch(() => {});
  let at = Number(historyStart);
  let rows = 0;
  const receive = (...contents: ReadonlyArray<number | Change>) => {
    at += 100;
    const changes = contents.flatMap((one): Change[] =>
      typeof one === 'number'
        ? Array.from({ length: one }, () => ({ kind: 'event', event: outboxEvent(++rows), bytes: 10 }))
        : [one],
    );
    for (const change of transaction(at, at, changes).changes) intake.onChange(change);
    return lsn(at + 8);
  };
  return { kafka, commits, publisher, intake, streaming, running, told, receive };
}

test('an event alone goes out at once; what comes meanwhile gathers and goes out as one', async () => {
  const { kafka, commits, streaming, running, receive } = await start();
  receive(1);
  await waitUntil('the first is in flight', () => commits.inFlight === 1);
  for (let i = 0; i < 10; i++) receive(2);
  for (let i = 0; i < 5; i++) await turn();
  commits.letOne();
  await waitUntil('the second is in flight', () => kafka.committedSizes.length === 1 && commits.inFlight === 1);
  commits.letAll();
  await waitUntil('all is published', () => kafka.committed.length === 21);
  assert.deepEqual(kafka.committedSizes, [1, 20]);
  assert.equal(commits.most, 1, 'two transactions were in flight at once');
  streaming.stop();
  await running;
});

test('stop finishes the transaction in flight and begins no other', async () => {
  const { kafka, commits, publisher, streaming, running, told, receive } = await start();
  const end = receive(3);
  await waitUntil('it is in flight', () => commits.inFlight === 1);
  receive(1);
  await turn();
  streaming.stop();
  let stopped = false;
  running.then(() => {
    stopped = true;
  });
  await turn();
  assert.equal(stopped, false, 'it did not wait for what is in flight');
  commits.letAll();
  await running;
  assert.deepEqual(kafka.committedSizes, [3]);
  assert.equal(publisher.checkpoint.endLsn, end);
  assert.deepEqual(told, [String(end)], 'what was committed at the end must be confirmed too');
});

test('stop while nothing happens, before the start, and twice', async () => {
  const { streaming, running } = await start();
  streaming.stop();
  streaming.stop();
  await running;
});

test('a transaction larger than a batch goes out in parts, with the position of each in the checkpoint', async () => {
  const { kafka, commits, publisher, running, streaming, receive } = await start({ maxEvents: 4 });
  const end = receive(10);
  const partials: unknown[] = [];
  for (const published of [4, 8]) {
    await waitUntil(`${published} in flight`, () => commits.inFlight === 1);
    commits.letOne();
    await waitUntil(`${published} published`, () => kafka.committed.length === published);
    await turn();
    partials.push(publisher.checkpoint.partial?.seq);
    assert.equal(publisher.checkpoint.endLsn, historyStart);
  }
  assert.deepEqual(partials, [4, 8]);
  commits.letAll();
  await waitUntil('all is published', () => publisher.checkpoint.endLsn === end);
  assert.equal(publisher.checkpoint.partial, null);
  assert.deepEqual(kafka.committedSizes, [4, 4, 2]);
  streaming.stop();
  await running;
});

test('the heartbeats of a batch are told when it is committed, not before', async () => {
  const { commits, running, streaming, told, receive } = await start();
  const end = receive(heartbeat(NONCE));
  await waitUntil('it is in flight', () => commits.inFlight === 1);
  assert.deepEqual(told, []);
  commits.letAll();
  await waitUntil('it is told', () => told.length === 1);
  assert.deepEqual(told, [`${end} ${NONCE}`]);
  streaming.stop();
  await running;
});

test('a transaction without events waits for the next that is worth a Kafka transaction', async () => {
  const { kafka, commits, running, streaming, receive, told } = await start();
  commits.letAll();
  receive(0);
  for (let i = 0; i < 5; i++) await turn();
  assert.deepEqual(told, []);
  assert.equal(streaming.idle, false);
  receive(1);
  await waitUntil('it is published', () => kafka.committed.length === 1);
  assert.equal(kafka.committedSizes.length, 1);
  streaming.stop();
  await running;
});

test('a failed commit ends it, with that error', async () => {
  const { kafka, commits, running, told, receive } = await start();
  commits.letAll();
  kafka.crash = () => 'not-applied';
  receive(1);
  await assert.rejects(running, /answer to EndTxn was lost/);
  assert.deepEqual(told, [], 'a commit in doubt was confirmed');
});

test('an event that waits for the registry holds up what is behind it, not what was ready before', async () => {
  const registry = Promise.withResolvers<boolean>();
  const refusal = { code: 'SCHEMA_UNKNOWN', message: 'unknown', path: null } as const;
  const encoder: EventEncoder = {
    encode: (event, topic): EncodeResult =>
      event.type === 'test.Unknown' ? { ok: false, refusal } : plainEncoder.encode(event, topic),
    refresh: () => registry.promise,
  };
  const { kafka, commits, running, receive } = await start({ encoder });
  commits.letAll();
  const unknown: Change = { kind: 'event', event: outboxEvent(500, { type: 'test.Unknown' }), bytes: 10 };
  receive(2);
  receive(unknown);
  receive(3);
  await waitUntil('what was ready is out', () => kafka.committed.length === 2);
  registry.reject(new FerryError('REGISTRY_UNAVAILABLE', 'away'));
  await assert.rejects(running, { code: 'REGISTRY_UNAVAILABLE' });
  assert.equal(kafka.committed.length, 2);
});

test('a keepalive moves the checkpoint only forward, and never into a transaction that is split', async () => {
  const { commits, publisher, running, streaming, told, receive } = await start({ maxEvents: 2 });
  commits.letAll();
  streaming.requestCheckpoint(lsn(1_050));
  await waitUntil('it is moved', () => publisher.checkpoint.endLsn === lsn(1_050));
  streaming.requestCheckpoint(lsn(1_040));
  for (let i = 0; i < 5; i++) await turn();
  assert.deepEqual(told, ['1050']);
  const end = receive(3);
  await waitUntil('all is published', () => publisher.checkpoint.endLsn === end);
  streaming.stop();
  await running;
});

test('what a control message leads to goes out at its place, in parts from which it would be received again', async () => {
  const prefix = controlPrefix('main', 'release');
  const release: Change = { kind: 'message', prefix, content: sealControl(CONTROL_KEY, prefix, 'five') };
  const controls: ControlHandlers = {
    release: async function* ({ position, body }) {
      assert.equal(body, 'five');
      for (const n of [901, 902, 903, 904, 905]) {
        const place = { byControl: true, doneSeq: n === 905 ? position.seq : position.seq - 1 };
        yield { ...batchEntry(n, { commitLsn: lsn(n), seq: 1 }), ...place };
      }
    },
  };
  const { kafka, commits, publisher, running, streaming, receive } = await start({ maxEvents: 3, controls });
  const end = receive(1, release, release, 2);
  const partials: unknown[] = [];
  for (const published of [3, 6, 9, 12, 13]) {
    await waitUntil(`${published} in flight`, () => commits.inFlight === 1);
    commits.letOne();
    await waitUntil(`${published} published`, () => kafka.committed.length === published);
    await turn();
    partials.push(publisher.checkpoint.partial?.seq);
  }
  assert.deepEqual(partials, [1, 2, 2, 4, undefined]);
  assert.equal(publisher.checkpoint.endLsn, end);
  assert.equal(
    publisher.checkpoint.lastEventId,
    outboxEvent(3).id,
    'only a row that was read here is proof of the history',
  );
  const ids = kafka.committed.map(({ headers }) => Number.parseInt(headers.ce_id?.slice(-12) ?? '', 16));
  assert.deepEqual(ids, [1, 901, 902, 903, 904, 905, 901, 902, 903, 904, 905, 2, 3]);
  streaming.stop();
  await running;
});

test('a control message of which nothing comes moves the position all the same', async () => {
  const prefix = controlPrefix('main', 'replay');
  const replay: Change = { kind: 'message', prefix, content: sealControl(CONTROL_KEY, prefix, '{}') };
  const { kafka, commits, publisher, running, streaming, receive } = await start();
  commits.letAll();
  const end = receive(replay, 1);
  await waitUntil('it is published', () => publisher.checkpoint.endLsn === end);
  assert.equal(kafka.committed.length, 1);
  streaming.stop();
  await running;
});

test('with a linger a batch waits for more, unless it is full', async () => {
  const { kafka, commits, running, streaming, receive } = await start({ lingerMs: 50, maxEvents: 3 });
  commits.letAll();
  receive(1);
  await turn();
  receive(1);
  await waitUntil('both are out', () => kafka.committed.length === 2);
  assert.deepEqual(kafka.committedSizes, [2]);
  streaming.stop();
  await running;
});
