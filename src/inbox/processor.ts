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
import { keyId } from './assignment.ts';
import { isUnreadable, readEvent } from './consumed-event.ts';
import { classify, type Failure } from './failure.ts';
import { type AnyHandler, readerOf } from './handler.ts';
import type { Horizon } from './horizon.ts';
import type { KeyQueue, QueuedRecord, Work } from './key-scheduler.ts';
import type { PoisonDesk, PoisonRecord } from './poison.ts';

export interface RetryPolicy {
  /** Tries of one event in all, before it is dead-lettered. */
  readonly maxTries: number;
  readonly baseMs: number;
  readonly maxMs: number;
}

export interface ProcessorOptions {
  readonly group: string;
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly decoder: ResolvingDecoder;
  readonly applier: Applier;
  readonly poison: PoisonDesk;
  readonly horizon: Horizon;
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

export class Processor {
  readonly #options: ProcessorOptions;

  constructor(options: ProcessorOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async process(work: Work): Promise<Done> {
    try {
      await this.#options.horizon.refresh();
      return work.kind === 'parked' ? await this.#follow(work) : await this.#apply(work);
    } catch (thrown) {
      return { undone: work.records, away: classify(thrown, true) }; // asking the inbox, or writing to the dead-letter topic
    }
  }

  /** Events of a parked key: they go where the one went that they stand behind. */
  async #follow({ queues, records }: Work): Promise<Done> {
    const blockedBy = queues[0]?.parkedBehind;
    if (blockedBy === null || blockedBy === undefined) return { undone: records, away: null };
    const wanted = records.filter(({ record }) => this.#isWanted(record));
    await this.#options.poison.follow(wanted, blockedBy);
    return { undone: [], away: null };
  }

  async #apply(work: Work): Promise<Done> {
    const { deliveries, poisoned, undone } = await this.#read(work);
    const attempt = work.kind === 'alone' ? (deliveries[0]?.queued.failures ?? 0) + 1 : 1;
    const outcome = await this.#options.applier.apply(deliveries, attempt);
    const queueOf = queuesById(work);
    let away: Failure | null = null;
    switch (outcome.kind) {
      case 'applied':
        this.#count(outcome.applied, deliveries.length);
        for (const { queued } of deliveries) succeeded(queueOf(queued));
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
        undone.push(...deliveries.map(({ queued }) => queued));
        away = outcome.failure;
    }
    if (away === null && poisoned.length > 0) await this.#deadLetter(poisoned, undone, queueOf);
    return { undone: inOrderOf(work, undone), away };
  }

  async #deadLetter(
    poisoned: readonly PoisonRecord[],
    undone: QueuedRecord[],
    queueOf: (queued: QueuedRecord) => KeyQueue,
  ): Promise<void> {
    try {
      const parked = await this.#options.poison.deadLetter(poisoned);
      for (const { queued, eventId } of parked) queueOf(queued).parkedBehind = eventId;
      for (const { queued } of poisoned) queueOf(queued).alone = false;
    } catch (thrown) {
      // What was applied stays applied; the poisoned come again.
      undone.push(...poisoned.map(({ queued }) => queued));
      const failure = classify(thrown, true);
      for (const { queued } of poisoned) delay(queueOf(queued), queued.failures, this.#options.retry);
      this.#options.logger.warn(
        { group: this.#options.group, code: failure.code, reason: failure.message },
        'dead letters cannot be written; they are tried again',
      );
    }
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
    for (const { queued } of suspects) queueOf(queued).alone = true;
    const [only, ...others] = suspects;
    if (only === undefined || others.length > 0) return undone;
    const { queued, event } = only;
    queued.failures += 1;
    if (queued.firstFailedAtMs === 0) queued.firstFailedAtMs = Date.now();
    const { topic, partition, offset } = event.source;
    const place = { group, eventId: event.id, type: event.type, topic, partition, offset: String(offset) };
    const told = { ...place, error: failure.type, code: failure.code, tries: queued.failures };
    if (failure.kind === 'permanent' || queued.failures >= retry.maxTries) {
      logger.error(told, 'a handler failed for good; the event goes to the dead-letter topic');
      poisoned.push({ queued, failure, event });
      return undone.filter((other) => other !== queued);
    }
    logger.warn(told, 'a handler failed; it is tried again');
    metrics.handlerRetriesTotal.add(1, { group });
    delay(queueOf(queued), queued.failures - 1, retry);
    return undone;
  }

  async #read(work: Work): Promise<Reading> {
    const reading: Reading = { deliveries: [], poisoned: [], undone: [] };
    const queueOf = queuesById(work);
    const stopped = new Set<KeyQueue>();
    for (const queued of work.records) {
      const queue = queueOf(queued);
      if (stopped.has(queue)) reading.undone.push(queued);
      else if (!(await this.#readOne(queued, queue, reading))) stopped.add(queue);
    }
    return reading;
  }

  /** False when the key must wait for what becomes of this record. */
  async #readOne(queued: QueuedRecord, queue: KeyQueue, reading: Reading): Promise<boolean> {
    const { decoder, handlers, horizon, retry, logger, group } = this.#options;
    const { record } = queued;
    try {
      const event = await readEvent(record, decoder, readerOf(handlers));
      if (event === null) return true;
      if (isUnreadable(event)) {
        const failure: Failure = { kind: 'permanent', type: 'UnreadableRecord', stack: '', ...event };
        reading.poisoned.push({ queued, failure, event: null });
        return false;
      }
      if (horizon.isTooOld(event.recordedAt)) {
        reading.poisoned.push({ queued, failure: TOO_OLD, event: null });
        return false;
      }
      const handler = handlers.get(event.type);
      if (handler !== undefined) reading.deliveries.push({ event, handler, key: record.key, queued });
      return true;
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
      logger.warn(
        { group, code: thrown.code, reason: thrown.message },
        'a record cannot be decoded yet; its key waits',
      );
      reading.undone.push(queued);
      delay(queue, 3, retry);
      return false;
    }
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

const TOO_OLD: Failure = {
  kind: 'permanent',
  type: 'TooOldToDedupe',
  code: 'TOO_OLD_TO_DEDUPE',
  message: 'the event was recorded before the oldest day that the inbox remembers: it may have been applied',
  stack: '',
};

function succeeded(queue: KeyQueue): void {
  queue.alone = false;
}

function delay(queue: KeyQueue, attempt: number, { baseMs, maxMs }: RetryPolicy): void {
  queue.notBeforeMs = performance.now() + backoffMs(attempt, baseMs, maxMs);
}

function queuesById({ queues }: Work): (queued: QueuedRecord) => KeyQueue {
  const byId = new Map(queues.map((queue) => [queue.id, queue]));
  return ({ record }) => {
    const queue = byId.get(keyId(record));
    if (queue === undefined) throw new Error('a record is not of the work that it came with');
    return queue;
  };
}

/** Of each key the order is that in which the work had it. */
function inOrderOf({ records }: Work, undone: readonly QueuedRecord[]): QueuedRecord[] {
  if (undone.length === 0) return [];
  const wanted = new Set(undone);
  return records.filter((queued) => wanted.has(queued));
}
