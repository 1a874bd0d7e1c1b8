/** Whether the inbox can tell if an event was applied before: it remembers the events of some days (INBOX_RETENTION_DAYS). */
import type { Queryable } from '../postgres/connection.ts';
import { type InboxHorizon, readHorizon } from './inbox-store.ts';

/** Days are made a month ahead and dropped one a day: what was read is good for long. A stale one is caught by the insert, which fails. */
const GOOD_FOR_MS = 60_000;

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

  /** Whether the event was recorded before the oldest day that the inbox remembers. RFC 3339 in UTC, so that text compares as time. */
  isTooOld(recordedAt: string): boolean {
    return this.#known !== null && recordedAt < this.#known.from;
  }
}
