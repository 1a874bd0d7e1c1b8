/**
 * One life of the relay between two failures: the start-up order, then streaming. The order is the protocol (design.md, docs/adr/0004):
 * hold the slot before fencing anybody, fence before reading the checkpoint, compare before the first byte is taken.
 */

import type { Tracer } from '@opentelemetry/api';
import type { EventTiers } from '../config/tiers.ts';
import type { ChangeStream, OpenChangeStream } from '../events/change-stream.ts';
import type { EventEncoder } from '../events/encoder.ts';
import { relayChannel } from '../events/relay-channel.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { onAbort, withDeadline } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { formatLsn } from '../kernel/lsn.ts';
import { Scope } from '../kernel/scope.ts';
import { controlKey } from '../outbox/control-writer.ts';
import type { ConnectionSettings } from '../postgres/connection.ts';
import { describeSharing } from '../postgres/own-database.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backfill, readPublishedIds } from './backfill.ts';
import type { BatchLimits } from './batch.ts';
import type { RelayRun } from './checkpoint.ts';
import { ControlGate, type ControlHandlers } from './control-gate.ts';
import { correctByParked, correctByTopics, countDeadLetters } from './dead-letter-notes.ts';
import { ensureEpoch, type ReadyEpoch } from './epoch.ts';
import { Heartbeat, RequestedHeartbeats } from './heartbeat.ts';
import { Intake } from './intake.ts';
import { checkWalLevel, markLive, readAllRows } from './ledger.ts';
import { livenessCheck } from './liveness.ts';
import { type ParkedBounds, ParkedKeys } from './parked-keys.ts';
import { comparePublication, readPublication } from './publication.ts';
import { Publisher } from './publisher.ts';
import { RecordFactory } from './record-factory.ts';
import { Releaser } from './releaser.ts';
import { replayHandler } from './replay-handler.ts';
import type { OpenSink, Sink } from './sink.ts';
import { readSlot } from './slot.ts';
import { agreeOnCheckpoint, readHeldSlot } from './start-up.ts';
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
  readonly tiers: EventTiers;
  readonly parkedBounds: ParkedBounds;
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

/** Hears how far a session gets. */
export interface SessionWatcher {
  onStreaming(publisher: Publisher): void;
  /** While it streams, at every Kafka transaction; where nothing is written, that of a heartbeat. */
  onCommitted(): void;
}

/** What publishing is made of. */
interface StreamParts {
  readonly control: SerialClient;
  readonly stream: ChangeStream;
  readonly sink: Sink;
  readonly publisher: Publisher;
  readonly factory: RecordFactory;
  readonly parked: ParkedKeys;
  readonly publicationIdentity: string;
}

const MAX_REPORTED = 100;

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
  async run(watcher: SessionWatcher): Promise<void> {
    try {
      await Promise.race([this.#run(watcher), this.#failure.promise]);
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

  async #run(watcher: SessionWatcher): Promise<void> {
    const { name, publication, openChangeStream, openSink, logger } = this.#options;
    const control = await this.#connect(`ferry relay ${name}`);
    await checkWalLevel(control);
    const sharing = await describeSharing(control, this.#options.settings.own);
    if (sharing !== null) throw new FerryError('RELAY_CONFIGURATION', sharing);
    await readAllRows(control);
    const publicationIdentity = await readPublication(control, publication);
    const { signal } = this.#stopping;
    const epoch = await ensureEpoch(control, { ...this.#options, relay: name, publicationIdentity, signal });
    comparePublication(publication, epoch.origin.publication, publicationIdentity);

    const stream = await openChangeStream();
    this.#scope.defer('replication stream', () => stream.stop());
    stream.ended.then(this.#fail);
    this.#states.to('comparing');
    const { slot, statusIntervalMs } = this.#options;
    const confirmedFlushLsn = await readHeldSlot({ slot, control, stream });
    let confirmedLsn = () => confirmedFlushLsn; // nothing later, before something is published
    // from here on, for the server gives the slot of a silent walsender to the next: Kafka, what is parked and the backfill may take long
    this.#every(statusIntervalMs, () => stream.confirm(confirmedLsn()));
    const sink = await openSink({ name, transactionalId: this.#transactionalId(stream) });
    this.#scope.defer('Kafka', () => sink.close());

    const checkpoint = await agreeOnCheckpoint({ name, slot, control, stream, confirmedFlushLsn, sink, epoch });
    this.#publishing = true;
    const publisher = new Publisher({ ...this.#options, sink, control }, checkpoint);
    confirmedLsn = () => publisher.checkpoint.endLsn;
    // until what the epoch found in the outbox is published, what Kafka holds is asked of Kafka alone
    const isReset = epoch.epoch > 1 && checkpoint.backfill !== null;
    const parked = await this.#loadParked(control, sink, checkpoint, isReset);
    const factory = new RecordFactory({ ...this.#options, topics: sink, parked });
    if (epoch.state === 'creating') {
      await publisher.move(checkpoint.endLsn); // the epoch is live only once its first checkpoint is durable
      await markLive(control, checkpoint, epoch.epoch);
    }
    const parts = { control, stream, sink, publisher, factory, parked, publicationIdentity };
    if (checkpoint.backfill !== null) await this.#backfill(parts, epoch, isReset);
    if (this.#stopping.signal.aborted) return;
    this.#states.to('streaming');
    logger.info({ slot, lsn: formatLsn(publisher.checkpoint.endLsn), run: String(checkpoint.run) }, 'streaming');
    watcher.onStreaming(publisher);
    await this.#stream(parts, watcher);
  }

  /** What waits behind poison is the relay's, whatever its epoch. */
  async #loadParked(control: SerialClient, sink: Sink, own: RelayRun, isReset: boolean): Promise<ParkedKeys> {
    const { routes, parkedBounds } = this.#options;
    const topicOf = (aggregateType: string) => routes.tryTopicOf(aggregateType) ?? routes.unrouted;
    const parked = await ParkedKeys.load(sink.parkedTopic, parkedBounds, sink.readParked(), topicOf);
    await correctByParked(control, own, parked, isReset);
    return parked;
  }

  async #backfill(parts: StreamParts, epoch: ReadyEpoch, isReset: boolean): Promise<void> {
    this.#states.to('backfilling');
    const { control, publisher, parked } = parts;
    const signal = this.#stopping.signal;
    const published = isReset
      ? await readPublishedIds({ ...this.#options, ...parts, signal, checkpoint: publisher.checkpoint })
      : { ids: new Set<string>(), onlyDead: new Set<string>() };
    for (const { events } of parked.keys()) for (const { eventId } of events) published.ids.add(eventId); // they are on the list
    if (isReset && !signal.aborted) await correctByTopics(control, publisher.checkpoint, published);
    await backfill({ ...this.#options, ...parts, epoch, published: published.ids, signal });
  }

  async #stream(parts: StreamParts, watcher: SessionWatcher): Promise<void> {
    const { control, stream, publisher, factory, parked, publicationIdentity } = parts;
    const { name, publication, limits, lingerMs, metrics, bufferMaxBytes, deadAfterMs, logger } = this.#options;
    const heartbeat = new Heartbeat(control, publisher.checkpoint);
    const gate = new ControlGate(name, await controlKey(control, name), this.#options);
    const releaser = new Releaser({
      ...this.#options,
      ...parts,
      own: publisher.checkpoint,
      gate,
      resumed: publisher.checkpoint.partial,
    });
    const controls: ControlHandlers = {
      release: (message) => releaser.handle(message),
      replay: replayHandler(factory, gate),
    };
    const tellIgnored = onceEach((what) => logger.warn({ what }, 'ignoring changes that are no events'));
    const intake = new Intake(publisher.checkpoint, {
      maxBytes: bufferMaxBytes,
      heartbeatPrefix: Heartbeat.prefix(name),
      controls: gate,
      pause: () => stream.pause(),
      resume: () => stream.resume(),
      onEvent: () => this.#options.failPoint('after-receive'),
      onItem: () => streaming.wake(),
      onKeepalive: (lsn, replyRequested) => {
        if (!replyRequested) return;
        stream.confirm(publisher.checkpoint.endLsn);
        if (streaming.idle && lsn > publisher.checkpoint.endLsn) streaming.requestCheckpoint(lsn);
      },
      onIgnored: (what, as) => {
        metrics.ignoredChangesTotal.add(1, { kind: as });
        tellIgnored(what);
      },
      onRefusal: this.#fail,
    });
    const onCommitted = (heartbeats: readonly string[]): void => {
      watcher.onCommitted();
      stream.confirm(publisher.checkpoint.endLsn);
      heartbeat.published(heartbeats, publisher.checkpoint.endLsn).catch(this.#fail);
    };
    const streaming = new Streaming({
      intake,
      factory,
      publisher,
      gate,
      controls,
      limits,
      lingerMs,
      metrics,
      onCommitted,
    });
    onAbort(this.#stopping.signal, () => streaming.stop()); // it may have fired while this was set up
    const beat = () => {
      withDeadline('a heartbeat', deadAfterMs, heartbeat.beat()).catch(this.#fail); // shows that the control connection lives
    };
    const requested = new RequestedHeartbeats(beat);
    this.#scope.defer('requested heartbeats', () => requested.stop());
    await control.listen(relayChannel(name), () => requested.request());
    this.#every(this.#options.heartbeatIntervalMs, () => {
      beat();
      readPublication(control, publication)
        .then((now) => comparePublication(publication, publicationIdentity, now))
        .catch(this.#fail);
      this.#measure(control, publisher, intake, parked).catch(this.#fail);
    });
    const isPaused = () => intake.paused;
    const confirmedLsn = () => publisher.checkpoint.endLsn;
    const check = livenessCheck({ stream, deadAfterMs, isPaused, confirmedLsn, onDead: this.#fail });
    this.#every(Math.min(1_000, deadAfterMs / 4), check);
    stream.start(intake);
    await streaming.run();
  }

  async #measure(control: SerialClient, publisher: Publisher, intake: Intake, parked: ParkedKeys): Promise<void> {
    const { metrics, name, slot } = this.#options;
    metrics.parkedKeys.record(parked.keyCount);
    metrics.parkedEvents.record(parked.eventCount);
    metrics.bufferFillRatio.record(intake.fillRatio);
    metrics.checkpointAgeSeconds.record(publisher.checkpointAgeSeconds);
    metrics.slotLagSeconds.record(
      intake.oldestCommitTimeMs === null ? 0 : (Date.now() - intake.oldestCommitTimeMs) / 1000,
    );
    metrics.dlqDepth.record(await countDeadLetters(control, name));
    const facts = await readSlot(control, slot);
    if (facts === null) return;
    metrics.slotLagBytes.record(facts.lagBytes);
    if (facts.safeWalBytes !== null) metrics.walSafeBytes.record(facts.safeWalBytes);
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

/** Calls `report` for each thing once: a table in the publication that is not ours may be written to a thousand times a second. */
function onceEach(report: (what: string) => void): (what: string) => void {
  const reported = new Set<string>();
  return (what) => {
    if (reported.has(what) || reported.size === MAX_REPORTED) return;
    reported.add(what);
    report(what);
  };
}
