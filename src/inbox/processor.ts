/**
 * Does a piece of work: reads its records, applies them, and decides for each that could not be applied whether it is tried again, waits, or
 * goes to the dead-letter topic. What it leaves undone comes again, in the order of its key.
 */

import { backoffMs } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { ResolvingDecoder } from '../registry/decoder.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Applier, Delivery } from './applier.ts';
import { isUnreadable, readEvent } from './consumed-event.ts';
import { classify, type Failure } from './failure.ts';
import { type AnyHandler, readerOf } from './handler.ts';
import type { Horizon } from './horizon.ts';
import type { KeyQueue, QueuedRecord, Work } from './key-scheduler.ts';
import type { PoisonDesk, PoisonRecord } from './poison.ts';
import { type RetryPolicy, triesOf } from './retry-policy.ts';
import { inOrderOf, queuesById, standsBehind, withoutOvertaking } from './work-order.ts';

export interface ProcessorOptions {
  readonly group: string;
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly decoder: ResolvingDecoder;
  readonly applier: Pick<Applier, 'apply'>;
  readonly poison: Pick<PoisonDesk, 'deadLetter' | 'follow'>;
  readonly horizon: Pick<Horizon, 'refresh' | 'refusalOf' | 'forget'>;
  readonly retry: RetryPolicy;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'inboxEventsTotal' | 'handlerRetriesTotal'>;
}

/** `away`: nothing can be done now, since a part of ours cannot be reached. */
export interface Done {
  readonly undone: readonly QueuedRecord[];
  readonly away: Failure | null;
}

interface QueuedDelivery extends Delivery {
  readonly queued: QueuedRecord;
}

/** What reading a piece of work gave. Of each key, what stands behind a record that is no delivery is undone. */
interface Reading {
  readonly deliveries: QueuedDelivery[];
  readonly poisoned: PoisonRecord[];
  readonly undone: QueuedRecord[];
}

/** How often it is told, at most, that keys wait for the registry: each of thousands tries again within a second. */
const TELL_EVERY_MS = 10_000;

export class Processor {
  readonly #options: ProcessorOptions;
  #toldAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ProcessorOptions) {
    this.#options = options;
  }

  /** `over` fires when the work is to be rolled back and handed to others. Never rejects. */
  async process(work: Work, over?: AbortSignal): Promise<Done> {
    try {
      await this.#options.horizon.refresh();
      return work.kind === 'parked' ? await this.#follow(work) : await this.#apply(work, over);
    } catch (thrown) {
      return { undone: work.records, away: classify(thrown, true) };
    }
  }

  /** Events of a parked key: they go where the one went that they stand behind. */
  async #follow({ queues: [queue], records }: Work): Promise<Done> {
    if (queue === undefined || queue.parkedBehind === null) return { undone: records, away: null };
    const wanted = records.filter(({ record }) => this.#isWanted(record));
    try {
      if (await this.#options.poison.follow(wanted, queue.parkedBehind)) return { undone: [], away: null };
      queue.parkedBehind = null; // a member that had the partition before has released the key meanwhile
    } catch (thrown) {
      this.#deadLettersWait(thrown, [queue]);
    }
    return { undone: records, away: null };
  }

  async #apply(work: Work, over?: AbortSignal): Promise<Done> {
    const { deliveries, poisoned, undone } = await this.#read(work);
    const attempt = work.kind === 'alone' ? (deliveries[0]?.queued.failures ?? 0) + 1 : 1;
    const outcome = await this.#options.applier.apply(deliveries, attempt, over);
    const queueOf = queuesById(work);
    let away: Failure | null = null;
    switch (outcome.kind) {
      case 'applied':
        this.#count(outcome.applied, deliveries.length - outcome.putBack.length);
        for (const { delivery, failure } of outcome.putBack) {
          if (failure === null) undone.push(delivery.queued);
          else undone.push(...this.#failed(failure, [delivery], [delivery], poisoned, queueOf));
        }
        break;
      case 'parked':
        for (const { topic, key, eventId } of outcome.keys) {
          const queue = deliveries.find(({ key: own, event }) => event.source.topic === topic && own?.equals(key));
          if (queue !== undefined) queueOf(queue.queued).parkedBehind = eventId;
        }
        undone.push(...deliveries.map(({ queued }) => queued));
        break;
      case 'failed':
        undone.push(...this.#failed(outcome.failure, outcome.suspects, deliveries, poisoned, queueOf));
        break;
      case 'away':
        if (outcome.failure.code === NO_PARTITION) this.#options.horizon.forget(); // a day that was dropped, or not made yet
        if (this.#lostTooOften(outcome.suspects)) {
          undone.push(...this.#failed(outcome.failure, outcome.suspects, deliveries, poisoned, queueOf));
          break;
        }
        undone.push(...deliveries.map(({ queued }) => queued));
        away = outcome.failure;
    }
    if (away === null) await this.#deadLetter(withoutOvertaking(work, poisoned, undone), undone, queueOf);
    else undone.push(...poisoned.map(({ queued }) => queued));
    return { undone: inOrderOf(work, undone), away };
  }

  /** Whether it is no longer to be believed that Postgres only happened to be lost while this handler ran, again and again. */
  #lostTooOften(suspects: readonly QueuedDelivery[]): boolean {
    for (const { queued } of suspects) {
      queued.lostConnections += 1;
      queued.suspect ||= queued.lostConnections >= LOSSES_TO_SUSPECT;
    }
    return suspects.length === 1 && suspects.every(({ queued }) => queued.lostConnections >= LOSSES_TO_FAIL);
  }

  async #deadLetter(
    poisoned: readonly PoisonRecord[],
    undone: QueuedRecord[],
    queueOf: (queued: QueuedRecord) => KeyQueue,
  ): Promise<void> {
    if (poisoned.length === 0) return;
    try {
      const parked = await this.#options.poison.deadLetter(poisoned);
      for (const { queued, eventId } of parked) queueOf(queued).parkedBehind = eventId;
    } catch (thrown) {
      // What was applied stays applied; the poisoned come again.
      undone.push(...poisoned.map(({ queued }) => queued));
      this.#deadLettersWait(
        thrown,
        poisoned.map(({ queued }) => queueOf(queued)),
      );
    }
  }

  /** Kafka or Postgres is away, or takes no dead letters: these keys wait, the others need not. */
  #deadLettersWait(thrown: unknown, queues: readonly KeyQueue[]): void {
    const { horizon, retry, logger, group } = this.#options;
    const { code, message } = classify(thrown, true);
    if (code === NO_PARTITION) horizon.forget();
    for (const queue of queues) delay(queue, WAITING_ATTEMPT, retry);
    logger.warn({ group, code, reason: message }, 'dead letters cannot be written; they are tried again');
  }

  /** Decides about the suspects; returns what comes again. With one suspect it was that one; of several, each is tried alone first. */
  #failed(
    failure: Failure,
    suspects: readonly QueuedDelivery[],
    deliveries: readonly QueuedDelivery[],
    poisoned: PoisonRecord[],
    queueOf: (queued: QueuedRecord) => KeyQueue,
  ): QueuedRecord[] {
    const { retry, logger, group, metrics } = this.#options;
    const undone = deliveries.map(({ queued }) => queued);
    for (const { queued } of suspects) queued.suspect = true;
    const [only, ...others] = suspects;
    if (only === undefined || others.length > 0) return undone;
    const { queued, event } = only;
    const last =
      failure.kind === 'permanent' || failure.kind === 'away' || queued.failures + 1 >= triesOf(retry, event.type);
    if (last && standsBehind(queued, undone)) return undone; // it has its last try when those before it are done
    queued.failures += 1;
    if (queued.firstFailedAtMs === 0) queued.firstFailedAtMs = Date.now();
    const { topic, partition, offset } = event.source;
    const place = { group, eventId: event.id, type: event.type, topic, partition, offset: String(offset) };
    const told = { ...place, error: failure.type, code: failure.code, tries: queued.failures };
    if (last) {
      logger.error(told, 'a handler failed for good; the event goes to the dead-letter topic');
      poisoned.push({ queued, failure, event });
      return undone.filter((other) => other !== queued);
    }
    logger.warn(told, 'a handler failed; it is tried again');
    metrics.handlerRetriesTotal.add(1, { group });
    delay(queueOf(queued), queued.failures - 1, retry);
    return undone;
  }

  /** Keys side by side: what several of them have to ask the registry is asked once, and a registry that is silent is waited for once. */
  async #read(work: Work): Promise<Reading> {
    const queueOf = queuesById(work);
    const byKey = Map.groupBy(work.records, queueOf);
    const readings = await Promise.all([...byKey].map(([queue, records]) => this.#readKey(queue, records)));
    return {
      deliveries: readings.flatMap(({ deliveries }) => deliveries),
      poisoned: readings.flatMap(({ poisoned }) => poisoned),
      undone: readings.flatMap(({ undone }) => undone),
    };
  }

  async #readKey(queue: KeyQueue, records: readonly QueuedRecord[]): Promise<Reading> {
    const reading: Reading = { deliveries: [], poisoned: [], undone: [] };
    for (const [i, queued] of records.entries()) {
      if (await this.#readOne(queued, queue, reading)) continue;
      reading.undone.push(...records.slice(i + 1));
      break;
    }
    return reading;
  }

  /** False when the key must wait for what becomes of this record. */
  async #readOne(queued: QueuedRecord, queue: KeyQueue, reading: Reading): Promise<boolean> {
    const { decoder, handlers, horizon, retry } = this.#options;
    const { record } = queued;
    try {
      const event = await readEvent(record, decoder, readerOf(handlers));
      if (event === null) return true;
      if (isUnreadable(event)) {
        const failure: Failure = { kind: 'permanent', type: 'UnreadableRecord', stack: '', ...event };
        reading.poisoned.push({ queued, failure, event: null });
        return false;
      }
      const refused = horizon.refusalOf(event.recordedAt);
      if (refused !== null) {
        reading.poisoned.push({ queued, failure: refused, event: null });
        return false;
      }
      const handler = handlers.get(event.type);
      if (handler !== undefined) reading.deliveries.push({ event, handler, key: record.key, queued });
      return true;
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) {
        const failure: Failure = { ...classify(thrown, false), kind: 'permanent' };
        reading.poisoned.push({ queued, failure, event: null });
        return false;
      }
      this.#tellThatKeysWait(thrown);
      reading.undone.push(queued);
      queued.suspect = true; // alone, so that the others need not wait with it
      delay(queue, WAITING_ATTEMPT, retry);
      return false;
    }
  }

  #tellThatKeysWait({ code, message }: FerryError): void {
    const { logger, group } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#toldAtMs < TELL_EVERY_MS) return;
    this.#toldAtMs = nowMs;
    logger.warn({ group, code, reason: message }, 'records cannot be decoded yet; their keys wait');
  }

  #isWanted({ headers, value }: QueuedRecord['record']): boolean {
    const type = headers.ce_type;
    return type === undefined ? value !== null : this.#options.handlers.has(type);
  }

  #count(applied: number, all: number): void {
    const { metrics, group } = this.#options;
    if (applied > 0) metrics.inboxEventsTotal.add(applied, { group, result: 'applied' });
    if (all > applied) metrics.inboxEventsTotal.add(all - applied, { group, result: 'duplicate' });
  }
}

/** SQLSTATE check_violation, which Postgres raises where no partition takes a row. */
const NO_PARTITION = '23514';

/** A key that waits for a part that is away pauses as after its fourth failed try. */
const WAITING_ATTEMPT = 3;

/**
 * A handler may break its own connection each time (a query that crashes the server, or idles beyond its time-out): waiting for Postgres
 * would then never end, and everybody would wait.
 */
const LOSSES_TO_SUSPECT = 3;
const LOSSES_TO_FAIL = 10;

function delay(queue: KeyQueue, attempt: number, { baseMs, maxMs }: RetryPolicy): void {
  queue.notBeforeMs = performance.now() + backoffMs(attempt, baseMs, maxMs);
}
