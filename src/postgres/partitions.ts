/** The daily partitions of outbox, inbox and idempotency keys: making those of the coming days, dropping old ones, telling how far they reach. */
import { backoffMs, sleep } from '../kernel/deadline.ts';
import type { Queryable } from './connection.ts';
import { isLockTimeout } from './sqlstate.ts';

/** How many days ahead partitions are made. */
export const PARTITION_DAYS_AHEAD = 30;
const IDEMPOTENCY_DAYS_AHEAD = 7;
/** Below this the service is no longer ready as it should be: nobody has made partitions for weeks. */
export const PARTITION_DAYS_WANTED = 7;

const ATTEMPTS = 20;

/**
 * Makes the outbox's partitions that are missing for the coming 30 days; returns how many. Call it at start and daily. It locks the outbox
 * for some milliseconds and waits for that lock only shortly, so it tries up to 20 times.
 */
export function ensurePartitions(db: Queryable): Promise<number> {
  return countUnderLock(db, 'select ferry.ensure_partitions($1) as count', [PARTITION_DAYS_AHEAD]);
}

/** As `ensurePartitions`, for the inbox; its first partitions reach back by `daysBack`, so that a backlog can be consumed. */
export function ensureInboxPartitions(db: Queryable, daysBack: number): Promise<number> {
  return countUnderLock(db, 'select ferry.ensure_inbox_partitions($1, $2) as count', [daysBack, PARTITION_DAYS_AHEAD]);
}

/** Forgets what was consumed of events recorded more than `daysKept` days ago; returns how many partitions that was. */
export function dropInboxPartitions(db: Queryable, daysKept: number): Promise<number> {
  return countUnderLock(db, 'select ferry.drop_inbox_partitions($1) as count', [daysKept]);
}

/** As `ensurePartitions`, for idempotency keys. Few days: each request looks for its key in all of them. */
export function ensureIdempotencyPartitions(db: Queryable): Promise<number> {
  return countUnderLock(db, 'select ferry.ensure_idempotency_partitions($1) as count', [IDEMPOTENCY_DAYS_AHEAD]);
}

/** Drops the days of which every idempotency key has expired; returns how many partitions that was. */
export function dropIdempotencyPartitions(db: Queryable): Promise<number> {
  return countUnderLock(db, 'select ferry.drop_idempotency_partitions() as count', []);
}

async function countUnderLock(db: Queryable, statement: string, values: number[]): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows } = await db.query<{ count: number }>(statement, values);
      return rows[0]?.count ?? 0;
    } catch (error) {
      if (!isLockTimeout(error) || attempt === ATTEMPTS) throw error;
      await sleep(backoffMs(attempt, 100, 2_000));
    }
  }
}

const UPKEEP_INTERVAL_MS = 6 * 3_600_000;

/**
 * Makes the outbox's missing partitions now and every six hours, so that a service that is never restarted does not run out of them.
 * Failures go to `onError` and are tried again at the next turn. Returns how to stop; the timer keeps no process alive.
 */
export function keepPartitions(db: Queryable, onError: (error: unknown) => void): () => void {
  return everySixHours(() => ensurePartitions(db), onError);
}

/** As `keepPartitions`, for the inbox: makes new days and drops those older than `daysKept`. */
export function keepInboxPartitions(db: Queryable, daysKept: number, onError: (error: unknown) => void): () => void {
  const turn = async () => {
    await ensureInboxPartitions(db, daysKept);
    await dropInboxPartitions(db, daysKept);
  };
  return everySixHours(turn, onError);
}

/** As `keepPartitions`, for idempotency keys: makes new days and drops those that have expired. */
export function keepIdempotencyPartitions(db: Queryable, onError: (error: unknown) => void): () => void {
  const turn = async () => {
    await ensureIdempotencyPartitions(db);
    await dropIdempotencyPartitions(db);
  };
  return everySixHours(turn, onError);
}

function everySixHours(work: () => Promise<unknown>, onError: (error: unknown) => void): () => void {
  const turn = () => void work().catch(onError);
  turn();
  const timer = setInterval(turn, UPKEEP_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Whole days after today that have a partition; negative when not even today has one. */
export async function partitionDaysAhead(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ days: number | null }>(
    `select max(day) - (clock_timestamp() at time zone 'UTC')::date as days from ferry.outbox_day`,
  );
  return rows[0]?.days ?? -1;
}
