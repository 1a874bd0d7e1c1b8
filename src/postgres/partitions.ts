/** The outbox's daily partitions: making those of the coming days, and telling how far they reach. */
import { backoffMs, sleep } from '../kernel/deadline.ts';
import type { Queryable } from './connection.ts';
import { sqlStateOf } from './sqlstate.ts';

/** How many days ahead partitions are made. */
export const PARTITION_DAYS_AHEAD = 30;
/** Below this the service is no longer ready as it should be: nobody has made partitions for weeks. */
export const PARTITION_DAYS_WANTED = 7;

const LOCK_NOT_AVAILABLE = '55P03';
const ATTEMPTS = 20;

/**
 * Makes the partitions that are missing for the coming 30 days; returns how many. Call it at start and daily. It locks the outbox for
 * some milliseconds and waits for that lock only shortly, so it tries up to 20 times.
 */
export async function ensurePartitions(db: Queryable): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows } = await db.query<{ created: number }>('select ferry.ensure_partitions($1) as created', [
        PARTITION_DAYS_AHEAD,
      ]);
      return rows[0]?.created ?? 0;
    } catch (error) {
      if (sqlStateOf(error) !== LOCK_NOT_AVAILABLE || attempt === ATTEMPTS) throw error;
      await sleep(backoffMs(attempt, 100, 2_000));
    }
  }
}

const UPKEEP_INTERVAL_MS = 6 * 3_600_000;

/**
 * Makes missing partitions now and every six hours, so that a service that is never restarted does not run out of them. Failures go to
 * `onError` and are tried again at the next turn. Returns how to stop; the timer keeps no process alive.
 */
export function keepPartitions(db: Queryable, onError: (error: unknown) => void): () => void {
  const turn = () => void ensurePartitions(db).catch(onError);
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
