/**
 * The running relay: two loops over bounded buffers. One turns queued changes into records and gathers them; the other publishes what is
 * gathered, one Kafka transaction at a time. While one is in flight the next batch gathers, which is all the batching there is.
 */
import { setImmediate as yieldToIo } from 'node:timers/promises';
import { sleep } from '../kernel/deadline.ts';
import type { Lsn } from '../kernel/lsn.ts';
import { Signal } from '../kernel/signal.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { BatchBuilder, type BatchLimits } from './batch.ts';
import type { ControlGate, ControlHandlers, ControlMessage } from './control-gate.ts';
import type { Intake, Item } from './intake.ts';
import type { Publisher } from './publisher.ts';
import type { RecordFactory } from './record-factory.ts';

export interface StreamingOptions {
  readonly intake: Intake;
  readonly factory: RecordFactory;
  readonly publisher: Publisher;
  readonly gate: Pick<ControlGate, 'accept' | 'reject'>;
  readonly controls: ControlHandlers;
  readonly limits: BatchLimits;
  readonly lingerMs: number;
  readonly metrics: Metrics;
  /** A commit is durable up to here. */
  readonly onCommitted: (heartbeats: readonly string[]) => void;
}

/** So many items are encoded between two looks at the sockets: about 5 ms. */
const ITEMS_PER_TURN = 256;

/**
 * With more changes already received, a batch goes on gathering for this long although it could be published: a Kafka transaction costs
 * about the same with ten events as with a thousand. An event that comes alone never waits.
 */
const RIPEN_MS = 20;

export class Streaming {
  readonly #options: StreamingOptions;
  readonly #builder: BatchBuilder;
  readonly #gatherSignal = new Signal();
  readonly #publishSignal = new Signal();
  #stopping = false;
  #publishing = false;
  #keepaliveLsn: Lsn | null = null;
  #readySince: number | null = null;
  #gatheringWaits = false;
  #ended = 0;

  constructor(options: StreamingOptions) {
    this.#options = options;
    this.#builder = new BatchBuilder(options.limits);
  }

  /** Runs until `stop`, then resolves when the transaction in flight is done; rejects with the first failure. */
  async run(): Promise<void> {
    const gathering = this.#gatherLoop();
    gathering.catch(() => this.stop());
    try {
      await this.#publishLoop();
    } finally {
      this.stop();
    }
    await gathering;
  }

  stop(): void {
    this.#stopping = true;
    this.#gatherSignal.notify();
    this.#publishSignal.notify();
  }

  /** The intake has something. */
  wake(): void {
    this.#gatherSignal.notify();
  }

  /** Nothing is received, gathered or in flight: what the server says it sent has been dealt with. */
  get idle(): boolean {
    return this.#options.intake.idle && this.#builder.empty && !this.#publishing;
  }

  /** Asks for a checkpoint at an LSN of which a keepalive told while the relay was idle. */
  requestCheckpoint(lsn: Lsn): void {
    this.#keepaliveLsn = lsn;
    this.#publishSignal.notify();
  }

  async #gatherLoop(): Promise<void> {
    const { intake, metrics } = this.#options;
    let taken = 0;
    while (!this.#stopping) {
      const item = this.#builder.full ? undefined : intake.shift();
      if (item === undefined) {
        await this.#gatherSignal.wait();
        continue;
      }
      const pending = this.#gather(item);
      if (pending !== undefined) await this.#waitFor(pending); // awaiting nothing costs a turn per event
      if (this.#builder.ready) this.#publishSignal.notify();
      taken += 1;
      if (taken % ITEMS_PER_TURN === 0) {
        metrics.bufferFillRatio.record(intake.fillRatio);
        await yieldToIo();
      }
    }
  }

  /** For the registry or a new topic: it may take long, or fail, and what is ready goes out meanwhile. */
  async #waitFor(pending: Promise<void>): Promise<void> {
    this.#gatheringWaits = true;
    this.#publishSignal.notify();
    await pending;
    this.#gatheringWaits = false;
  }

  #gather(item: Item): Promise<void> | undefined {
    const { factory } = this.#options;
    switch (item.kind) {
      case 'begin':
        this.#builder.begin(item.commitLsn, item.xid);
        return undefined;
      case 'event': {
        const entry = factory.tryMake(item.event, item.position);
        if (entry === null) return factory.make(item.event, item.position).then((made) => this.#builder.add(made));
        this.#builder.add(entry);
        return undefined;
      }
      case 'malformed':
        return factory.makeMalformed(item.row, item.position).then((made) => this.#builder.add(made));
      case 'control':
        return this.#control(item);
      case 'end':
        this.#builder.end(item);
        this.#measure(item);
        return undefined;
    }
  }

  /** Publishes what a control message asks for, as much at a time as a batch holds. */
  async #control(message: ControlMessage): Promise<void> {
    const { controls, gate } = this.#options;
    const handler = controls[message.control];
    if (handler === undefined) {
      gate.reject(message, 'nobody here knows this kind');
      return;
    }
    for await (const entry of handler(message)) {
      while (this.#builder.full && !this.#stopping) await this.#gatherSignal.wait();
      if (this.#stopping) return; // the rest is found again: the checkpoint does not cover the message
      this.#builder.add(entry);
      if (this.#builder.ready) this.#publishSignal.notify();
    }
  }

  /** Of every transaction when they are few, of every 256th under load: a histogram costs a microsecond. */
  #measure({ commitTimeMs, receivedAtMs }: Item & { kind: 'end' }): void {
    this.#ended += 1;
    if (!this.#options.intake.empty && this.#ended % ITEMS_PER_TURN !== 0) return;
    const { stageDurationSeconds } = this.#options.metrics;
    stageDurationSeconds.record(Math.max(0, receivedAtMs - commitTimeMs) / 1000, { stage: 'received' });
    stageDurationSeconds.record((Date.now() - receivedAtMs) / 1000, { stage: 'encoded' });
  }

  async #publishLoop(): Promise<void> {
    const { publisher, onCommitted, lingerMs, metrics } = this.#options;
    while (!this.#stopping) {
      if (this.#ripe()) {
        if (lingerMs > 0 && !this.#builder.full) await sleep(lingerMs);
        this.#readySince = null;
        const batch = this.#builder.take();
        this.#gatherSignal.notify();
        await this.#busy(publisher.publish(batch));
        const committedAt = performance.now();
        onCommitted(batch.ends.flatMap((end) => end.heartbeats));
        metrics.stageDurationSeconds.record((performance.now() - committedAt) / 1000, { stage: 'confirmed' });
      } else if (this.#keepaliveLsn !== null && this.#mayMoveTo(this.#keepaliveLsn)) {
        await this.#busy(publisher.move(this.#keepaliveLsn));
        this.#keepaliveLsn = null;
        onCommitted([]);
      } else {
        await this.#publishSignal.wait();
      }
    }
  }

  /** Ready, and nothing is gained by waiting. */
  #ripe(): boolean {
    if (!this.#builder.ready) return false;
    this.#readySince ??= performance.now();
    if (this.#builder.full || this.#options.intake.empty || this.#gatheringWaits) return true;
    return performance.now() - this.#readySince > RIPEN_MS;
  }

  /** Not while the rest of a split transaction is still to come, of which a keepalive can be ahead. */
  #mayMoveTo(lsn: Lsn): boolean {
    const { endLsn, partial } = this.#options.publisher.checkpoint;
    return this.idle && lsn > endLsn && partial === null;
  }

  async #busy(work: Promise<void>): Promise<void> {
    this.#publishing = true;
    await work; // a failure ends the session, so the flag need not be taken back
    this.#publishing = false;
  }
}
