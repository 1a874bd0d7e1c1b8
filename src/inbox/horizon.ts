/** Whether the inbox can tell if an event was applied before: it remembers the events of some days (INBOX_RETENTION_DAYS). */
import type { Queryable } from '../postgres/connection.ts';
import type { Failure } from './failure.ts';
import { type InboxHorizon, readHorizon } from './inbox-store.ts';

/** Days are made a month ahead and dropped one a day: what was read is good for long. A stale one is caught by the insert, which fails. */
const GOOD_FOR_MS = 60_000;
/** By how much a producer's clock may be ahead. */
const CLOCK_SKEW_MS = 86_400_000;

export const TOO_OLD: Failure = {
  kind: 'permanent',
  type: 'TooOldToDedupe',
  code: 'TOO_OLD_TO_DEDUPE',
  message: 'the event was recorded before the oldest day that the inbox remembers: it may have been applied',
  stack: '',
};
const IN_FUTURE: Failure = {
  kind: 'permanent',
  type: 'RecordedInFuture',
  code: 'EVENT_MALFORMED',
  message: 'the event was recorded on a day that is still to come, by its header or by its id',
  stack: '',
};

export class Horizon {
  readonly #db: Queryable;
  #known: InboxHorizon | null = null;
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(db: Queryable) {
    this.#db = db;
  }

  /** Reads it again unless that was done lately. Rejects when Postgres is away or the inbox has no partitions. */
  async refresh(): Promise<void> {
    if (performance.now() - this.#readAtMs < GOOD_FOR_MS) return;
    this.#known = await readHorizon(this.#db);
    if (this.#known === null) throw new Error('the inbox has no partitions: run ./ferry migrate');
    this.#readAtMs = performance.now();
  }

  /** It may have changed. */
  forget(): void {
    this.#readAtMs = Number.NEGATIVE_INFINITY;
  }

  /**
   * Why the inbox cannot hold an event of that time; null if it can, or will when the partitions of the coming days are made. RFC 3339 in
   * UTC, so that text compares as time.
   */
  refusalOf(recordedAt: string): Failure | null {
    if (this.#known === null) return null;
    if (recordedAt < this.#known.from) return TOO_OLD;
    return recordedAt >= this.#known.to && Date.parse(recordedAt) > Date.now() + CLOCK_SKEW_MS ? IN_FUTURE : null;
  }
}
