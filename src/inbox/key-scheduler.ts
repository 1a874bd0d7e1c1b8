/**
 * Which events may be worked on now, so that keys do not wait for each other and the events of one key keep their order: a queue per key, of
 * which at most one worker has events at a time. Knows no clock but the one it is given, and does nothing by itself.
 */
import type { LogRecord } from '../kafka/log-reader.ts';

/** A record that is to be worked on. */
export interface QueuedRecord {
  readonly record: LogRecord;
  readonly bytes: number;
  /** Failed tries so far. */
  failures: number;
  /** When the first of them was, in milliseconds since the epoch. */
  firstFailedAtMs: number;
}

export interface KeyQueue {
  /** Unique in the consumer: topic and key, or topic, partition and offset of a record without a key. */
  readonly id: string;
  records: QueuedRecord[];
  /** Taken by a worker. */
  taken: boolean;
  /** Not before this time, in the clock's milliseconds. */
  notBeforeMs: number;
  /** Failed lately: its events are tried one at a time, so that they do not fail others' transactions with them. */
  alone: boolean;
  /** Its events go to the dead-letter topic, behind one that could not be applied. */
  parkedBehind: string | null;
  /** Nobody may take it until it is let go. */
  held: boolean;
}

/** What a worker gets: events to be done in one transaction, those of a key in their order. */
export interface Work {
  readonly queues: readonly KeyQueue[];
  readonly records: readonly QueuedRecord[];
  readonly kind: 'batch' | 'alone' | 'parked';
}

export interface TakeLimits {
  readonly maxRecords: number;
  readonly maxBytes: number;
  /** Whether a key that failed lately may be taken: one worker is always left to the others. */
  readonly aloneAllowed: boolean;
}

export class KeyScheduler {
  /** Keys with events that nobody has taken, the longest waiting first. */
  readonly #waiting = new Map<string, KeyQueue>();
  /** Every key that has events or is being worked on, or is remembered for its state. */
  readonly #queues = new Map<string, KeyQueue>();
  #records = 0;
  #bytes = 0;

  /** Records that are queued or being worked on. */
  get size(): number {
    return this.#records;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(id: string, record: QueuedRecord): void {
    const queue = this.#queue(id);
    queue.records.push(record);
    this.#records += 1;
    this.#bytes += record.bytes;
    if (!queue.taken) this.#waiting.set(id, queue);
  }

  #queue(id: string): KeyQueue {
    let queue = this.#queues.get(id);
    if (queue === undefined) {
      queue = { id, records: [], taken: false, notBeforeMs: 0, alone: false, parkedBehind: null, held: false };
      this.#queues.set(id, queue);
    }
    return queue;
  }

  /** Takes what may be worked on at `nowMs`; null if there is nothing. Give it back with `finish` or `putBack`. */
  take(nowMs: number, limits: TakeLimits): Work | null {
    for (const queue of this.#waiting.values()) {
      if (queue.held || queue.notBeforeMs > nowMs) continue;
      if (queue.parkedBehind !== null) return this.#take('parked', [[queue, limits.maxRecords]]);
      if (!queue.alone) return this.#takeBatch(nowMs, limits);
      if (limits.aloneAllowed) return this.#take('alone', [[queue, 1]]);
    }
    return null;
  }

  #takeBatch(nowMs: number, { maxRecords, maxBytes }: TakeLimits): Work {
    const chosen: Array<[KeyQueue, number]> = [];
    let records = 0;
    let bytes = 0;
    for (const queue of this.#waiting.values()) {
      if (queue.held || queue.alone || queue.parkedBehind !== null || queue.notBeforeMs > nowMs) continue;
      let count = 0;
      for (const record of queue.records) {
        if (records === maxRecords || (records > 0 && bytes + record.bytes > maxBytes)) break;
        records += 1;
        bytes += record.bytes;
        count += 1;
      }
      if (count > 0) chosen.push([queue, count]);
      if (count < queue.records.length || records === maxRecords) break;
    }
    return this.#take('batch', chosen);
  }

  #take(kind: Work['kind'], chosen: ReadonlyArray<readonly [KeyQueue, number]>): Work {
    const records: QueuedRecord[] = [];
    for (const [queue, count] of chosen) {
      records.push(...queue.records.splice(0, count));
      queue.taken = true;
      this.#waiting.delete(queue.id);
    }
    return { kind, records, queues: chosen.map(([queue]) => queue) };
  }

  /** The work is done. */
  finish(work: Work): void {
    for (const record of work.records) this.#forget(record);
    for (const queue of work.queues) this.#release(queue);
  }

  /** What of the work is not done comes back, to the front of its keys and in its order; the rest is done. `idOf` names a record's key. */
  putBack(work: Work, undone: readonly QueuedRecord[], idOf: (record: QueuedRecord) => string): void {
    const back = new Set(undone);
    for (const record of work.records) if (!back.has(record)) this.#forget(record);
    const byKey = Map.groupBy(undone, idOf);
    for (const queue of work.queues) {
      queue.records.unshift(...(byKey.get(queue.id) ?? []));
      this.#release(queue);
    }
  }

  /** Nobody may take the key until it is let go; who has it goes on. */
  hold(id: string): void {
    this.#queue(id).held = true;
  }

  isTaken(id: string): boolean {
    return this.#queues.get(id)?.taken === true;
  }

  /** Whether the key is still parked shows when its next event is applied. */
  letGo(id: string): void {
    const queue = this.#queue(id);
    queue.held = false;
    queue.parkedBehind = null;
    if (!queue.taken) this.#release(queue);
  }

  /** When the next key may be taken that may not be now; null if none waits for a time. */
  nextDueMs(nowMs: number): number | null {
    let next: number | null = null;
    for (const { held, notBeforeMs } of this.#waiting.values()) {
      if (!held && notBeforeMs > nowMs && (next === null || notBeforeMs < next)) next = notBeforeMs;
    }
    return next;
  }

  #forget(record: QueuedRecord): void {
    this.#records -= 1;
    this.#bytes -= record.bytes;
  }

  #release(queue: KeyQueue): void {
    queue.taken = false;
    if (queue.records.length > 0) this.#waiting.set(queue.id, queue);
    else if (!queue.held && !queue.alone && queue.parkedBehind === null) this.#queues.delete(queue.id);
  }
}
