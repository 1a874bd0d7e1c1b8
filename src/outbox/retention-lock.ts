/**
 * Whoever takes days out of the outbox, or needs them all to be there, does so alone: one of them would not see what the other is about to
 * do. The lock is the session's, so it ends with the connection however that ends.
 */
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';

const NAME = 'ferry.outbox retention';

/** Runs `work` while nobody else has the lock; `db` is one connection. Rejects with CONFLICT at once if somebody has. */
export async function withRetentionLock<T>(db: Queryable, work: () => Promise<T>): Promise<T> {
  const { rows } = await db.query<{ locked: boolean }>(
    'select pg_try_advisory_lock(hashtextextended($1, 0)) as locked',
    [NAME],
  );
  if (rows[0]?.locked !== true) {
    throw new FerryError(
      'CONFLICT',
      'another process takes old days out of the outbox, or begins a new epoch, right now: try again in a minute',
    );
  }
  try {
    return await work();
  } finally {
    await db.query('select pg_advisory_unlock(hashtextextended($1, 0))', [NAME]);
  }
}
