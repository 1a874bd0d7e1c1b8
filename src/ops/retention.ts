/**
 * Takes old days out of the outbox: note, detach (concurrently, so that writers go on), wait until every relay has published what the day may
 * have got until then, look once more, drop. Each step can be the last of a process that dies: the note tells the next run where to go on.
 * What turns out to be needed after all is put back.
 *
 * That nothing can be added to an old day rests on ferry.outbox_stamp, which refuses ids older than a day; and that everything in it was
 * committed below the WAL position read after the detaching, on Postgres, which waits there for all transactions that had the day open.
 */

import { type Actor, recordOperation } from '../domain/audit.ts';
import { relayChannel } from '../events/relay-channel.ts';
import { sleep } from '../kernel/deadline.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { type Lsn, parseLsn } from '../kernel/lsn.ts';
import { currentPosition } from '../outbox/position.ts';
import { withRetentionLock } from '../outbox/retention-lock.ts';
import type { Queryable } from '../postgres/connection.ts';
import { ensurePartitions } from '../postgres/partitions.ts';
import { isLockTimeout } from '../postgres/sqlstate.ts';
import { type Hold, holdByRelays, inspectDay, type OutboxDay, readRelays } from './retention-holds.ts';
import {
  attach,
  attachmentOf,
  detach,
  dropDay,
  finishDetach,
  noteDropped,
  readBusy,
  readForeignOwner,
  readOldDayNames,
  readOldDays,
  readUnfinished,
} from './retention-steps.ts';

export interface DayReport {
  readonly day: string;
  /** Null where nobody counted: another step of it is unfinished. */
  readonly rows: bigint | null;
  readonly outcome: 'dropped' | 'would be dropped' | 'kept';
  /** Why it was kept. */
  readonly hold: Hold | null;
}

export interface RetentionOptions {
  /** One connection of its own, outside any transaction: the run holds a lock of its session, and detaching allows no transaction. */
  readonly db: Queryable;
  /** The database with the store of dead letters (ferry.dead_letter), which keeps those of all databases. */
  readonly deadLetters: Queryable;
  /** Days that are kept, today not counted. */
  readonly daysKept: number;
  /** Only says what would be done. */
  readonly dryRun: boolean;
  /** Who stands in the audit. */
  readonly actor: Actor;
  readonly failPoint: FailPoint;
  readonly onDay?: (report: DayReport) => void;
  /** How long relays have to publish what a detached day may have got last; default 30,000. */
  readonly publishTimeoutMs?: number;
  /** Ends the run: a day that is being waited for is put back, no other is begun. */
  readonly signal?: AbortSignal;
}

const LOOK_EVERY_MS = 100;
const FINISH_ATTEMPTS = 5;

/**
 * Goes through the days that are older than those kept, the oldest first. Rejects with CONFLICT while another process is at it; a day that
 * cannot be taken out is kept, with the reason.
 */
export async function runRetention(options: RetentionOptions): Promise<DayReport[]> {
  const { db, dryRun, daysKept, signal } = options;
  return withRetentionLock(db, async () => {
    const run = new RetentionRun(options);
    const foreignOwner = await readForeignOwner(db);
    if (foreignOwner !== null) {
      for (const day of await readOldDayNames(db, daysKept)) run.keep(day, null, foreignOwner);
      return run.reports;
    }
    if (!dryRun) for (const day of await readUnfinished(db)) await run.goOn(day);
    for (const day of await readOldDays(db, daysKept)) {
      if (signal?.aborted !== true && !run.hasReported(day)) await run.consider(day);
    }
    // Moves the guard behind the oldest day that is left; where somebody has it open, the services do so within hours.
    if (run.reports.some(({ outcome }) => outcome === 'dropped')) await unlessLocked(ensurePartitions(db));
    return run.reports;
  });
}

class RetentionRun {
  readonly reports: DayReport[] = [];
  readonly #options: RetentionOptions;
  /** Whether the relays publish at all, so that no day is detached in vain; null: not asked yet. */
  #standstill: Promise<Hold | null> | null = null;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Whether a day was dealt with already: one that was put back. */
  hasReported({ day }: OutboxDay): boolean {
    return this.reports.some((report) => report.day === day);
  }

  /** An attached day. */
  async consider(day: OutboxDay): Promise<void> {
    const { db, deadLetters, dryRun } = this.#options;
    const { rows, hold } = await inspectDay(db, deadLetters, day);
    const found = hold ?? (await readBusy(db));
    if (found !== null) this.keep(day, rows, found);
    else if (dryRun) this.#tell({ day: day.day, rows, outcome: 'would be dropped', hold: null });
    else {
      this.#standstill ??= currentPosition(db).then((lsn) => this.#untilPublished(parseLsn(lsn)));
      const standstill = await this.#standstill;
      if (standstill === null) await this.#retire(day, rows);
      else this.keep(day, rows, standstill);
    }
  }

  /** A day that a run which died has noted. */
  async goOn(day: OutboxDay): Promise<void> {
    const { db } = this.#options;
    const attachment = await attachmentOf(db, day);
    if (attachment === 'attached') await forget(db, day);
    else if (attachment === 'gone')
      await noteDropped(db, day); // by hand: we note it with the drop
    else await this.#finish(day);
  }

  async #retire(day: OutboxDay, rows: bigint): Promise<void> {
    const { db, failPoint } = this.#options;
    await note(db, day, rows);
    failPoint('retention-noted');
    await unlessLocked(detach(db, day));
    failPoint('retention-detached');
    if ((await attachmentOf(db, day)) === 'attached') {
      await forget(db, day);
      this.keep(day, rows, LOCKED);
      return;
    }
    await this.#finish(day);
  }

  /** A day that new transactions do not see any more: it is dropped or put back, or left to the next run while older ones have it open. */
  async #finish(day: OutboxDay): Promise<void> {
    const { db, deadLetters, actor, daysKept, failPoint } = this.#options;
    for (let attempt = 1; (await attachmentOf(db, day)) === 'detaching'; attempt++) {
      if (attempt > FINISH_ATTEMPTS) {
        this.keep(day, null, LOCKED);
        return;
      }
      await unlessLocked(finishDetach(db, day));
    }
    const unpublished = await this.#untilPublished(await noteDetached(db, day));
    const { rows, hold } = await inspectDay(db, deadLetters, day);
    const found = unpublished ?? hold;
    if (found !== null) {
      this.keep(day, rows, (await unlessLocked(attach(db, day))) ? found : LOCKED);
      return;
    }
    failPoint('retention-published');
    // A statement whose snapshot is from before the detaching may have opened the day after it.
    const dropped = dropDay(db, day, (tx) =>
      recordOperation(tx, actor, {
        action: 'outbox.drop-day',
        subject: `outbox/${day.day}`,
        eventId: null,
        reason: `older than ${daysKept} days, ${rows} rows`,
      }),
    );
    if (await unlessLocked(dropped)) this.#tell({ day: day.day, rows, outcome: 'dropped', hold: null });
    else this.keep(day, rows, LOCKED);
  }

  /** Null as soon as every relay has published up to the position; why not, after the time-out. */
  async #untilPublished(lsn: Lsn): Promise<Hold | null> {
    const { db, publishTimeoutMs = 30_000, signal } = this.#options;
    const deadline = performance.now() + publishTimeoutMs;
    for (;;) {
      const relays = await readRelays(db);
      const behind = relays.find(({ publishedLsn }) => publishedLsn === null || parseLsn(publishedLsn) < lsn);
      const hold = holdByRelays(relays);
      if (hold === null && behind === undefined) return null;
      if (performance.now() > deadline || signal?.aborted === true) {
        return (
          hold ?? { reason: 'unpublished', detail: `relay ${behind?.relay} has not published what is committed by now` }
        );
      }
      for (const { relay } of relays) await db.query(`select pg_notify($1, '')`, [relayChannel(relay)]);
      await sleep(LOOK_EVERY_MS, signal);
    }
  }

  keep({ day }: Pick<OutboxDay, 'day'>, rows: bigint | null, hold: Hold): void {
    this.#tell({ day, rows, outcome: 'kept', hold });
  }

  #tell(report: DayReport): void {
    this.reports.push(report);
    this.#options.onDay?.(report);
  }
}

const LOCKED: Hold = {
  reason: 'locked',
  detail: 'transactions have had the outbox open for too long: the next run goes on',
};

/** Whether it was done before the lock time-out. */
async function unlessLocked(step: Promise<unknown>): Promise<boolean> {
  try {
    await step;
    return true;
  } catch (error) {
    if (!isLockTimeout(error)) throw error;
    return false;
  }
}

/** A day can have been dropped before, if somebody put it back from a backup. */
async function note(db: Queryable, { day, firstId, endId }: OutboxDay, rows: bigint): Promise<void> {
  await db.query(
    `insert into ferry.outbox_retired (day, first_id, end_id, rows) values ($1, $2, $3, $4)
     on conflict (day) do update set rows = excluded.rows, begun_at = clock_timestamp(), detached_lsn = null, dropped_at = null`,
    [day, firstId, endId, String(rows)],
  );
}

async function forget(db: Queryable, { day }: OutboxDay): Promise<void> {
  await db.query('delete from ferry.outbox_retired where day = $1 and dropped_at is null', [day]);
}

/** The first time, the end of WAL is noted: whatever the day holds was committed below. */
async function noteDetached(db: Queryable, { day }: OutboxDay): Promise<Lsn> {
  const { rows } = await db.query<{ lsn: string }>(
    `update ferry.outbox_retired set detached_lsn = coalesce(detached_lsn, pg_current_wal_insert_lsn())
     where day = $1 returning detached_lsn::text as lsn`,
    [day],
  );
  if (rows[0] === undefined) throw new Error(`the day ${day} is not noted`);
  return parseLsn(rows[0].lsn);
}
