/**
 * One life of the relay's core between two crashes, on a Kafka in memory and a made-up WAL: Intake, Streaming and Publisher as they are, put
 * together as RelaySession does. Only the connection to Postgres is played.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { EventTiers } from '../../src/config/tiers.ts';
import type { EventEncoder } from '../../src/events/encoder.ts';
import { noFailPoints } from '../../src/kernel/fail-point.ts';
import { type Lsn, maxLsn } from '../../src/kernel/lsn.ts';
import { Signal } from '../../src/kernel/signal.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import type { BatchLimits } from '../../src/relay/batch.ts';
import { Intake } from '../../src/relay/intake.ts';
import { ParkedKeys } from '../../src/relay/parked-keys.ts';
import { Publisher } from '../../src/relay/publisher.ts';
import { RecordFactory } from '../../src/relay/record-factory.ts';
import { Releaser } from '../../src/relay/releaser.ts';
import { Streaming } from '../../src/relay/streaming.ts';
import type { LostAnswer, MemoryKafka } from './memory-sink.ts';
import { checkpoint, controlGate, plainEncoder, quiet, routes } from './relay-fixtures.ts';
import { HEARTBEAT_PREFIX, heartbeat, historyStart, transaction, type WalTransaction } from './wal-history.ts';

export interface Life {
  readonly limits: BatchLimits;
  readonly bufferMaxBytes: number;
  /** How many transactions before the checkpoint the slot begins: confirmations may be lost. */
  readonly resent: number;
  /** At which commit the relay dies, and what becomes of that; null: it lives until all is published. */
  readonly crash: { readonly atCommit: number; readonly answer: LostAnswer } | null;
}

/** Decides from 0 to 7: how the server's sending and the relay's working interleave. */
export type Choices = Iterator<number>;

const PARKED_BOUNDS = { maxEventsPerKey: 10_000, maxEvents: 100_000 };

const LAST_BEAT = 'ffffffff-ffff-4fff-bfff-ffffffffffff';

/** Accepts the notes of dead letters, and has no rows. */
const forgetful: Queryable = { query: async () => ({ rows: [], rowCount: 0 }) };

const topicOf = (aggregateType: string) => routes.tryTopicOf(aggregateType) ?? routes.unrouted;

/** What is different from the plainest of lives. */
export interface Setting {
  readonly encoder?: EventEncoder;
  readonly control?: Queryable;
  readonly tiers?: EventTiers;
}

/** True when it lived to see everything published; rejects if it refused. */
export async function live(
  kafka: MemoryKafka,
  history: readonly WalTransaction[],
  life: Life,
  choices: Choices,
  { encoder = plainEncoder, control = forgetful, tiers = new EventTiers() }: Setting = {},
) {
  const sink = await kafka.open('ferry.checkpoint.main')({ name: 'main', transactionalId: 'ferry.main' });
  await sink.fence(async () => {});
  const start = (await sink.readCheckpoint()) ?? checkpoint({ endLsn: historyStart });
  await sink.pin(start.topics);
  armCrash(kafka, life);

  const publisher = new Publisher({ sink, control, ...quiet, failPoint: noFailPoints }, start);
  const parked = await ParkedKeys.load(sink.parkedTopic, PARKED_BOUNDS, sink.readParked(), topicOf);
  const factory = new RecordFactory({
    encoder,
    parked,
    tiers,
    routes,
    topics: sink,
    source: 'test',
    maxEventBytes: 1_000,
  });
  const gate = controlGate;
  const releaser = new Releaser({
    ...{ own: start, control, sink, factory, parked, tiers, gate, ...quiet },
    limits: life.limits,
    resumed: start.partial,
  });
  const refused = Promise.withResolvers<never>();
  refused.promise.catch(() => {});
  const socket = new PausableSocket();
  let finished = false;
  const intake: Intake = new Intake(start, {
    maxBytes: life.bufferMaxBytes,
    heartbeatPrefix: HEARTBEAT_PREFIX,
    controls: controlGate,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    onEvent: () => {},
    onItem: () => streaming.wake(),
    onKeepalive: (lsn) => {
      if (streaming.idle && lsn > publisher.checkpoint.endLsn) streaming.requestCheckpoint(lsn);
    },
    onIgnored: () => {},
    onRefusal: refused.reject,
  });
  const streaming = new Streaming({
    ...{
      intake,
      factory,
      publisher,
      gate,
      controls: { release: (message) => releaser.handle(message) },
      limits: life.limits,
      lingerMs: 0,
      metrics: quiet.metrics,
    },
    onCommitted: (heartbeats) => {
      finished ||= heartbeats.includes(LAST_BEAT);
      if (finished) streaming.stop();
    },
  });
  const running = streaming.run();
  const sending = send(resume(history, start.endLsn, life.resent), intake, socket, choices);
  try {
    await Promise.race([running, refused.promise]);
  } catch (error) {
    if (life.crash === null || !/EndTxn/.test(String(error))) throw error;
  } finally {
    streaming.stop();
    socket.close();
    await sending;
  }
  return finished;
}

function armCrash(kafka: MemoryKafka, { crash }: Life): void {
  let commits = 0;
  kafka.crash = () => (++commits === crash?.atCommit ? crash.answer : undefined);
}

/** What the slot sends after a restart, with a heartbeat at its end. */
function resume(history: readonly WalTransaction[], endLsn: Lsn, resent: number): WalTransaction[] {
  const firstNew = history.findIndex((one) => one.endLsn > endLsn);
  const from = Math.max(0, (firstNew < 0 ? history.length : firstNew) - resent);
  const end = maxLsn(history.at(-1)?.endLsn ?? historyStart, endLsn); // an earlier life may have published its own last heartbeat
  const last = transaction(Number(end) + 100, 1, [heartbeat(LAST_BEAT)]);
  return [...history.slice(from), last];
}

/** Sends as a walsender does: keepalives run ahead as far as nothing is committed, also while a transaction is being sent. */
async function send(history: readonly WalTransaction[], intake: Intake, socket: PausableSocket, choices: Choices) {
  for (const { commitLsn, changes } of history) {
    for (const change of changes) {
      const choice = choices.next().value ?? 0;
      if (choice % 2 === 1) intake.onKeepalive(commitLsn, true);
      for (let turns = choice - 4; turns > 0; turns--) await turn();
      if (!(await socket.ready())) return;
      intake.onChange(change);
    }
  }
}

class PausableSocket {
  readonly #resumed = new Signal();
  #paused = false;
  #closed = false;

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#resumed.notify();
  }

  close(): void {
    this.#closed = true;
    this.#resumed.notify();
  }

  /** False when it is closed. */
  async ready(): Promise<boolean> {
    while (this.#paused && !this.#closed) await this.#resumed.wait();
    return !this.#closed;
  }
}
