/**
 * One life of the relay between two failures: the start-up order, then streaming. The order is the protocol (design.md, docs/adr/0004):
 * hold the slot before fencing anybody, fence before reading the checkpoint, compare before the first byte is taken.
 */

import type { Tracer } from '@opentelemetry/api';
import type { ChangeStream, OpenChangeStream } from '../events/change-stream.ts';
import type { EventEncoder } from '../events/encoder.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { withDeadline } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { formatLsn, type Lsn } from '../kernel/lsn.ts';
import { Scope } from '../kernel/scope.ts';
import type { ConnectionSettings } from '../postgres/connection.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backfill, readPublishedIds } from './backfill.ts';
import type { BatchLimits } from './batch.ts';
import type { Checkpoint, CheckpointIdentity } from './checkpoint.ts';
import { compare, compareIdentity, isSuperseded } from './compare.ts';
import { ensureEpoch, type ReadyEpoch } from './epoch.ts';
import { Heartbeat } from './heartbeat.ts';
import { Intake } from './intake.ts';
import {
  checkDatabase,
  countRun,
  forgetUncommittedDeadLetters,
  isEventPresent,
  markLive,
  readAllRows,
  readRun,
  readSlot,
  readSystemIdentifier,
} from './ledger.ts';
import { Publisher } from './publisher.ts';
import { RecordFactory } from './record-factory.ts';
import type { OpenSink, Sink } from './sink.ts';
import type { RelayStateMachine } from './states.ts';
import { Streaming } from './streaming.ts';

export interface RelayOptions {
  readonly name: string;
  readonly slot: string;
  readonly publication: string;
  readonly settings: ConnectionSettings;
  readonly openChangeStream: OpenChangeStream;
  readonly openSink: OpenSink;
  readonly encoder: EventEncoder;
  readonly routes: TopicRoutes;
  readonly source: string;
  readonly maxEventBytes: number;
  readonly limits: BatchLimits;
  readonly lingerMs: number;
  readonly bufferMaxBytes: number;
  readonly heartbeatIntervalMs: number;
  readonly statusIntervalMs: number;
  readonly deadAfterMs: number;
  readonly standbyPollMs: number;
  readonly backoffMaxMs: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly failPoint: FailPoint;
}

/** Thrown when another relay took the slot between two steps of the start. */
export class SlotLostError extends Error {
  override readonly name = 'SlotLostError';
}

export class RelaySession {
  readonly #options: RelayOptions;
  readonly #states: RelayStateMachine;
  readonly #scope = new Scope();
  readonly #failure = Promise.withResolvers<never>();
  readonly #stopping = new AbortController();
  #publishing = false;

  constructor(options: RelayOptions, states: RelayStateMachine) {
    this.#options = options;
    this.#states = states;
    this.#failure.promise.catch(() => {}); // it may fail before anybody listens
  }

  /** Runs until `stop` (resolves, with what was in flight done) or until anything fails (rejects). Releases everything either way. */
  async run(onStreaming: (publisher: Publisher) => void): Promise<void> {
    try {
      await Promise.race([this.#run(onStreaming), this.#failure.promise]);
    } finally {
      this.stop();
      await this.#scope
        .close()
        .catch((error: unknown) => this.#options.logger.debug({ err: error }, 'closing the session'));
    }
  }

  /** Before anything is published there is nothing to finish, and some waits of the start have no end of their own. */
  stop(): void {
    this.#stopping.abort();
    if (!this.#publishing) this.#failure.reject(new Error('stopped during the start'));
  }

  /** Ends the session, and at once also the taking of new batches: closing it takes a few turns. */
  readonly #fail = (error: Error): void => {
    this.#failure.reject(error);
    this.#stopping.abort();
  };

  async #run(onStreaming: (publisher: Publisher) => void): Promise<void> {
    const { name, publication, openChangeStream, openSink, logger } = this.#options;
    const control = await this.#connect(`ferry relay ${name}`);
    await checkDatabase(control, publication);
    await readAllRows(control);
    const epoch = await ensureEpoch(control, { ...this.#options, relay: name, signal: this.#stopping.signal });

    const stream = await openChangeStream();
    this.#scope.defer('replication stream', () => stream.stop());
    stream.ended.then(this.#fail);
    this.#states.to('comparing');
    const sink = await openSink({ name, transactionalId: this.#transactionalId(stream) });
    this.#scope.defer('Kafka', () => sink.close());

    const checkpoint = await this.#agree(control, stream, sink, epoch);
    this.#publishing = true;
    const publisher = new Publisher({ ...this.#options, sink, control }, checkpoint);
    const factory = new RecordFactory({ ...this.#options, topics: sink });
    this.#every(this.#options.statusIntervalMs, () => stream.confirm(publisher.checkpoint.endLsn));
    if (epoch.state === 'creating') {
      await publisher.move(checkpoint.endLsn); // the epoch is live only once its first checkpoint is durable
      await markLive(control, name, epoch.epoch);
    }
    if (checkpoint.backfill !== null) await this.#backfill(epoch, sink, publisher, factory);
    if (this.#stopping.signal.aborted) return;
    this.#states.to('streaming');
    logger.info(
      { slot: this.#options.slot, lsn: formatLsn(publisher.checkpoint.endLsn), run: String(checkpoint.run) },
      'streaming',
    );
    onStreaming(publisher);
    await this.#stream(control, stream, publisher, factory);
  }

  /** Start-up steps 3 to 6: from holding the slot to a checkpoint that may be gone on from. Throws the refusal where there is one. */
  async #agree(control: SerialClient, stream: ChangeStream, sink: Sink, epoch: ReadyEpoch): Promise<Checkpoint> {
    const { name, slot } = this.#options;
    const { systemId, database, timeline } = stream.identity;
    const ours: CheckpointIdentity = { relay: name, systemId, database, slot, epoch: epoch.epoch };
    if ((await readSystemIdentifier(control)) !== systemId) {
      throw new FerryError('RELAY_CONFIGURATION', 'DATABASE_URL leads to two different servers (a load balancer?)');
    }
    const peeked = await sink.peek();
    if (peeked !== null && !isSuperseded(peeked, ours, epoch)) compareIdentity(peeked, ours);
    const confirmedFlushLsn = await this.#proveSlot(control, stream);
    await sink.fence(() => this.#proveSlot(control, stream));
    const newest = await sink.readCheckpoint();
    const found = newest !== null && isSuperseded(newest, ours, epoch) ? null : newest;
    if (found === null && epoch.state === 'live') {
      throw new FerryError(
        'RELAY_CHECKPOINT_MISSING',
        `the checkpoint topic holds nothing of relay ${name}, which is in epoch ${epoch.epoch}`,
      );
    }
    const run = await readRun(control, name);
    if (found !== null) {
      compareIdentity(found, ours);
      const { lastEventId } = found;
      const lastEventPresent = lastEventId === null ? null : await isEventPresent(control, lastEventId);
      compare(found, stream.identity, { confirmedFlushLsn, run, lastEventPresent });
      await sink.pin(found.topics);
      await forgetUncommittedDeadLetters(control, found);
    }
    const first = firstCheckpoint(ours, epoch);
    return { ...(found ?? first), timeline, run: await countRun(control, name) };
  }

  /** The slot must be ours at the moment of fencing: a relay that lost it and fenced would stop the one that has it. */
  async #proveSlot(control: SerialClient, stream: ChangeStream): Promise<Lsn> {
    const facts = await readSlot(control, this.#options.slot);
    if (facts?.activePid !== stream.processId)
      throw new SlotLostError(`slot ${this.#options.slot} is held by ${facts?.activePid ?? 'nobody'}`);
    return facts.confirmedFlushLsn;
  }

  async #backfill(epoch: ReadyEpoch, sink: Sink, publisher: Publisher, factory: RecordFactory): Promise<void> {
    this.#states.to('backfilling');
    const client = await this.#connect(`ferry backfill ${this.#options.name}`);
    await readAllRows(client);
    const { limits, logger, routes } = this.#options;
    const signal = this.#stopping.signal;
    const published = epoch.epoch === 1 ? new Set<string>() : await readPublishedIds(client, sink, routes, logger);
    await backfill({ client, epoch, publisher, factory, published, logger, limits, signal });
  }

  async #stream(
    control: SerialClient,
    stream: ChangeStream,
    publisher: Publisher,
    factory: RecordFactory,
  ): Promise<void> {
    const { name, limits, lingerMs, metrics, bufferMaxBytes, deadAfterMs, logger } = this.#options;
    const heartbeat = new Heartbeat(control, name);
    const intake = new Intake(publisher.checkpoint, {
      maxBytes: bufferMaxBytes,
      heartbeatPrefix: Heartbeat.prefix(name),
      pause: () => stream.pause(),
      resume: () => stream.resume(),
      onEvent: () => this.#options.failPoint('after-receive'),
      onItem: () => streaming.wake(),
      onKeepalive: (lsn, replyRequested) => {
        if (!replyRequested) return;
        stream.confirm(publisher.checkpoint.endLsn);
        if (streaming.idle && lsn > publisher.checkpoint.endLsn) streaming.requestCheckpoint(lsn);
      },
      onIgnored: (what) => logger.warn({ what }, 'ignored a change that is no event'),
      onRefusal: this.#fail,
    });
    const onCommitted = (heartbeats: readonly string[]): void => {
      stream.confirm(publisher.checkpoint.endLsn);
      heartbeat.published(heartbeats, publisher.checkpoint.endLsn).catch(this.#fail);
    };
    const streaming = new Streaming({ intake, factory, publisher, limits, lingerMs, metrics, onCommitted });
    this.#stopping.signal.addEventListener('abort', () => streaming.stop());
    this.#every(this.#options.heartbeatIntervalMs, () => {
      withDeadline('a heartbeat', deadAfterMs, heartbeat.beat()).catch(this.#fail); // shows that the control connection lives
      this.#measure(control, publisher, intake).catch(this.#fail);
    });
    this.#watchLiveness(stream, intake, publisher);
    stream.start(intake);
    await streaming.run();
  }

  async #measure(control: SerialClient, publisher: Publisher, intake: Intake): Promise<void> {
    const { metrics, slot } = this.#options;
    metrics.bufferFillRatio.record(intake.fillRatio);
    metrics.checkpointAgeSeconds.record(publisher.checkpointAgeSeconds);
    metrics.slotLagSeconds.record(
      intake.oldestCommitTimeMs === null ? 0 : (Date.now() - intake.oldestCommitTimeMs) / 1000,
    );
    const facts = await readSlot(control, slot);
    if (facts === null) return;
    metrics.slotLagBytes.record(facts.lagBytes);
    if (facts.safeWalBytes !== null) metrics.walSafeBytes.record(facts.safeWalBytes);
  }

  /** Dead is only who sends no byte at all, though asked and read: a large transaction may keep everything else waiting for long. */
  #watchLiveness(stream: ChangeStream, intake: Intake, publisher: Publisher): void {
    const { deadAfterMs } = this.#options;
    let bytes = stream.bytesReceived;
    let heardAt = performance.now();
    this.#every(Math.min(1_000, deadAfterMs / 4), () => {
      const silentMs = performance.now() - heardAt;
      if (stream.bytesReceived !== bytes || intake.paused) {
        bytes = stream.bytesReceived;
        heardAt = performance.now();
      } else if (silentMs > deadAfterMs) {
        this.#fail(new Error(`no byte from Postgres for ${Math.round(silentMs)} ms`));
      } else if (silentMs > deadAfterMs / 2) {
        stream.confirm(publisher.checkpoint.endLsn, { requestReply: true });
      }
    });
  }

  /** A connection of the session: when it breaks, the session ends. A fast stop of Postgres breaks it first, before the stream. */
  async #connect(applicationName: string): Promise<SerialClient> {
    const client = await SerialClient.connect(this.#options.settings, applicationName, this.#fail);
    this.#scope.defer(applicationName, () => client.end());
    return client;
  }

  #every(intervalMs: number, work: () => void): void {
    const timer = setInterval(work, intervalMs);
    this.#scope.defer('timer', () => clearInterval(timer));
  }

  /** Stable over restarts and unlike any other relay's, so that fencing meets exactly our own predecessors. */
  #transactionalId(stream: ChangeStream): string {
    return `ferry.${stream.identity.systemId}.${stream.identity.database}.${this.#options.name}`;
  }
}

function firstCheckpoint(ours: CheckpointIdentity, epoch: ReadyEpoch): Omit<Checkpoint, 'timeline' | 'run'> {
  return {
    ...ours,
    endLsn: epoch.origin.consistentPoint,
    partial: null,
    backfill: { rowSeq: 0n, count: 0 },
    lastEventId: null,
    commitTimeMs: 0,
    topics: new Map(),
  };
}
