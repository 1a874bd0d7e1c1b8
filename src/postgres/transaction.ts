/** One Postgres transaction around a piece of work, run again as a whole when Postgres rolled it back because of others. */
import type pg from 'pg';
import { backoffMs, orAborted, sleep } from '../kernel/deadline.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';
import type { Queryable } from './connection.ts';
import { prepared } from './prepared.ts';
import { isOutdatedPlan, isRetryableTransaction } from './sqlstate.ts';

export type Isolation = 'read committed' | 'repeatable read' | 'serializable';

export interface TransactionOptions {
  /** Default: read committed. */
  readonly isolation?: Isolation;
  /** How often the whole transaction is run again when Postgres rolled it back because of others; default 5. */
  readonly retries?: number;
  /**
   * Ends the transaction when it fires, whatever `work` is doing: its connection is closed, which rolls it back, and the signal's reason is
   * thrown. A statement that is running goes on in the server until that notices, within a second.
   */
  readonly signal?: AbortSignal;
}

/**
 * Runs `work` in a transaction and commits. `work` may run several times, so it must have no effect but through `tx`. Rejects with
 * what `work` or Postgres threw (OVERLOADED after the last retry). If the connection breaks during COMMIT the outcome is unknown:
 * that is never retried here; idempotency keys answer it.
 */
export async function transaction<T>(
  pool: pg.Pool,
  work: (tx: Queryable) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const retries = options.retries ?? 5;
  for (let attempt = 0; ; attempt++) {
    try {
      return await runOnce(pool, work, options.isolation ?? 'read committed', options.signal);
    } catch (error) {
      if (!isRetryableTransaction(error)) throw error;
      if (attempt === retries) {
        throw new FerryError('OVERLOADED', `a transaction lost against others ${attempt + 1} times`, { cause: error });
      }
      await sleep(backoffMs(attempt, 10, 500));
    }
  }
}

async function runOnce<T>(
  pool: pg.Pool,
  work: (tx: Queryable) => Promise<T>,
  isolation: Isolation,
  signal?: AbortSignal,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query(signal === undefined ? begin(isolation) : `${begin(isolation)}; ${NOTICE_LOST_CLIENT}`);
    const tx = prepared(client);
    const result = await (signal === undefined ? work(tx) : orAborted(work(tx), signal));
    const { command } = await client.query('commit');
    // After a statement that failed and whose error `work` swallowed, Postgres answers COMMIT with ROLLBACK and no error.
    if (command !== 'COMMIT') throw new Error('the transaction had failed before its commit: nothing was written');
    return result;
  } catch (error) {
    if (signal?.aborted === true || isOutdatedPlan(error)) broken = coerceError(error);
    else broken = await rollback(client);
    throw error;
  } finally {
    client.release(broken);
  }
}

function begin(isolation: Isolation): string {
  return `begin isolation level ${isolation}`;
}

/** By default Postgres notices only at the end of a statement, and until then the transaction keeps its locks (Postgres 14 or later). */
const NOTICE_LOST_CLIENT = 'set local client_connection_check_interval = 500';

/** The error that says why the pool must not hand this connection out again, if it must not. */
async function rollback(client: pg.PoolClient): Promise<Error | undefined> {
  try {
    await client.query('rollback');
    return undefined;
  } catch (cause) {
    return coerceError(cause);
  }
}
