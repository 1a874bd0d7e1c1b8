/**
 * Which events may be worked on now, so that keys do not wait for each other and the events of one key keep their order: a queue per key, of
 * which at most one worker has events at a time. Knows no clock but the one it is given, and does nothing by itself.
 */
import type { LogRecord } from '../kafka/log-reader.ts';

/** A record that is to be worked on. */
export interface QueuedRecord {
  readonly record: LogRecord;
  /** In whose order it stands (`keyId`). */
  readonly keyId: string;
  readonly bytes: number;
  /** Failed tries so far. */
  failures: number;
  /** When the first of them was, in milliseconds since the epoch. */
  firstFailedAtMs: number;
  /** It may have failed a transaction: it is tried alone, so that it does not fail others' with it. */
  suspect: boolean;
  /** How often the connection to Postgres was lost while its handler ran. */
  lostConnections: number;
}

/** A record that nobody has tried yet. */
export function queuedRecord(record: LogRecord, bytes: number): QueuedRecord {
  return { record, keyId: keyId(record), bytes, failures: 0, firstFailedAtMs: 0, suspect: false, lostConnections: 0 };
}

/** In whose order a record stands, unique in the consumer; one without a key stands alone. */
export function keyId(record: Pick<LogRecord, 'topic' | 'key'> | LogRecord): string {
  const { topic, key } = record;
  if (key !== null) return `${topic} ${key.toString('latin1')}`;
  return 'offset' in record ? `${topic}/${record.partition}/${record.offset}` : `${topic}/`;
}

export interface KeyQueue {
  /** The `keyId` of its records. */
  readonly id: string;
  records: QueuedRecord[];
  /** Taken by a worker. */
  taken: boolean;
  /** Not before this time, in the clock's milliseconds. */
  notBeforeMs: number;
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
  /** Whether a suspect may be taken: one worker is always left to the others. */
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

  push(record: QueuedRecord): void {
    const queue = this.#queue(record.keyId);
    queue.records.push(record);
    this.#records += 1;
    this.#bytes += record.bytes;
    if (!queue.taken) this.#waiting.set(queue.id, queue);
  }

  #queue(id: string): KeyQueue {
    let queue = this.#queues.get(id);
    if (queue === undefined) {
      queue = { id, records: [], taken: false, notBeforeMs: 0, parkedBehind: null, held: false };
      this.#queues.set(id, queue);
    }
    return queue;
  }

  /** Takes what may be worked on at `nowMs`; null if there is nothing. Give it back with `finish`. */
  take(nowMs: number, limits: TakeLimits): Work | null {
    for (const queue of this.#waiting.values()) {
      if (!isReady(queue, nowMs)) continue;
      if (queue.parkedBehind !== null) return this.#take('parked', [[queue, new Room(limits).fill(queue.records)]]);
      if (queue.records[0]?.suspect !== true) return this.#takeBatch(nowMs, limits);
      if (limits.aloneAllowed) return this.#take('alone', [[queue, 1]]);
    }
    return null;
  }

  /** Of each key the events that stand before its first suspect. */
  #takeBatch(nowMs: number, limits: TakeLimits): Work {
    const chosen: Array<[KeyQueue, number]> = [];
    const room = new Room(limits);
    for (const queue of this.#waiting.values()) {
      if (room.isFull) break;
      if (!isReady(queue, nowMs) || queue.parkedBehind !== null) continue;
      const count = room.fill(queue.records, { pastSuspects: false });
      if (count > 0) chosen.push([queue, count]);
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

  /** The work is done but for `undone`, which comes back to the front of its keys, in its order. */
  finish(work: Work, undone: readonly QueuedRecord[] = []): void {
    const back = new Set(undone);
    for (const record of work.records) if (!back.has(record)) this.#forget(record);
    const byKey = Map.groupBy(undone, ({ keyId: id }) => id);
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
    else if (!queue.held && queue.parkedBehind === null) this.#queues.delete(queue.id);
  }
}

function isReady({ held, notBeforeMs }: KeyQueue, nowMs: number): boolean {
  return !held && notBeforeMs <= nowMs;
}

/** What still goes into a piece of work: one record always does, however large. */
class Room {
  readonly #limits: TakeLimits;
  #records = 0;
  #bytes = 0;
  isFull = false;

  constructor(limits: TakeLimits) {
    this.#limits = limits;
  }

  /** How many of the records fit, from the first on; they are counted as taken. */
  fill(records: readonly QueuedRecord[], { pastSuspects = true } = {}): number {
    const { maxRecords, maxBytes } = this.#limits;
    let count = 0;
    for (const { bytes, suspect } of records) {
      if (suspect && !pastSuspects) break;
      this.isFull = this.#records >= maxRecords || (this.#records > 0 && this.#bytes + bytes > maxBytes);
      if (this.isFull) break;
      this.#records += 1;
      this.#bytes += bytes;
      count += 1;
    }
    return count;
  }
}
