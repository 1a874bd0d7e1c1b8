/**
 * Gathers records into what one Kafka transaction will hold. A Postgres transaction is kept whole where it fits; one that is larger than
 * a batch is split, and the checkpoint says how far it got. Pure: no I/O, no clock.
 */

import type { Position } from '../events/outbox-event.ts';
import type { OutgoingRecord } from '../events/record.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import type { Lsn } from '../kernel/lsn.ts';
import type { Partial } from './checkpoint.ts';

export interface BatchLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

/** What the database is told of an event beside that it was published (dead-letter-notes.ts). */
export type LedgerNote =
  | {
      readonly kind: 'dead-letter';
      readonly code: ErrorCode;
      readonly topic: string;
      readonly key: string;
      /** Set when it is parked, else null. */
      readonly ordinal: number | null;
      readonly blockedBy: string | null;
    }
  /** A control message ends its being a dead letter; `by` is the message's place. */
  | { readonly kind: 'resolved'; readonly as: 'published' | 'discarded'; readonly by: Position };

/** One event's record and what must be remembered of it. */
export interface BatchEntry {
  /** Null when nothing is published of the event, and only what is parked changes. */
  readonly record: OutgoingRecord | null;
  /** What changes of the parked keys, in the same Kafka transaction (parked-keys.ts). */
  readonly state: OutgoingRecord | null;
  /** Of both. */
  readonly bytes: number;
  readonly eventId: string;
  readonly traceparent: string | null;
  readonly position: Position;
  /**
   * How many changes of the transaction that is being read are done with once this is committed: its own place for an event of the WAL. The
   * checkpoint of a transaction that is split here says so, and a restart skips as many.
   */
  readonly doneSeq: number;
  /** Whether it is published by a control message, and not by its own row in the WAL. */
  readonly byControl: boolean;
  /** Null for an event that is simply published. */
  readonly note: LedgerNote | null;
}

export interface TransactionEnd {
  readonly endLsn: Lsn;
  readonly commitTimeMs: number;
  /** Heartbeats of ours that the transaction carried. */
  readonly heartbeats: readonly string[];
}

/** What one Kafka transaction publishes, and where the checkpoint moves with it. */
export interface Batch {
  readonly entries: readonly BatchEntry[];
  readonly bytes: number;
  /** Ends of the Postgres transactions that are whole with this batch, in order. */
  readonly ends: readonly TransactionEnd[];
  /** Set when the batch ends inside a transaction. */
  readonly partial: Partial | null;
}

export class BatchBuilder {
  readonly #limits: BatchLimits;
  #entries: BatchEntry[] = [];
  #bytes = 0;
  #ends: TransactionEnd[] = [];
  /** How many entries belong to transactions that have ended. */
  #whole = 0;
  #open: { commitLsn: Lsn; xid: number } | null = null;

  constructor(limits: BatchLimits) {
    this.#limits = limits;
  }

  begin(commitLsn: Lsn, xid: number): void {
    if (this.#open !== null) throw new Error('a transaction began inside another one');
    this.#open = { commitLsn, xid };
  }

  add(entry: BatchEntry): void {
    if (this.#open === null) throw new Error('an event came outside of a transaction');
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
  }

  end(end: TransactionEnd): void {
    if (this.#open === null) throw new Error('a transaction ended that had not begun');
    this.#open = null;
    const last = this.#ends.at(-1);
    if (last !== undefined && this.#entries.length === this.#whole) {
      // A transaction without events only moves the end: kept apart, a busy database with a quiet outbox would gather them for ever.
      this.#ends[this.#ends.length - 1] = {
        ...last,
        endLsn: end.endLsn,
        heartbeats: [...last.heartbeats, ...end.heartbeats],
      };
    } else {
      this.#ends.push(end);
    }
    this.#whole = this.#entries.length;
  }

  /** No more may be added before `take`. */
  get full(): boolean {
    return this.#entries.length >= this.#limits.maxEvents || this.#bytes >= this.#limits.maxBytes;
  }

  /** Nothing gathered and no transaction open. */
  get empty(): boolean {
    return this.#entries.length === 0 && this.#ends.length === 0 && this.#open === null;
  }

  /**
   * Whether there is something to publish now: events of whole transactions, a part that fills a batch, or a heartbeat. Transactions
   * without events are not worth a Kafka transaction of their own: the next heartbeat takes them along.
   */
  get ready(): boolean {
    return this.#whole > 0 || this.full || this.#ends.some((end) => end.heartbeats.length > 0);
  }

  /** Takes the whole transactions; when there is none, the part of the open one. What is left stays gathered. */
  take(): Batch {
    const cut = this.#ends.length > 0 ? this.#whole : this.#entries.length;
    const entries = this.#entries.slice(0, cut);
    const last = entries.at(-1);
    const partial =
      this.#ends.length === 0 && this.#open !== null && last !== undefined
        ? { ...this.#open, seq: last.doneSeq }
        : null;
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    const batch: Batch = { entries, bytes, ends: this.#ends, partial };
    this.#entries = this.#entries.slice(cut);
    this.#bytes -= bytes;
    this.#ends = [];
    this.#whole = 0;
    return batch;
  }
}
