/**
 * Positions, as writers get them and readers bring them back (docs/CONSUMERS.md): an LSN at or behind the end of a commit. What is published up
 * to there holds the commit.
 */
import { type Lsn, parseLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';

/** The end of the WAL as of now: asked for after a commit, by any connection to the primary, it lies at or behind the commit's end. */
export async function currentPosition(db: Queryable): Promise<Lsn> {
  const { rows } = await db.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  return parseLsn(rows[0]?.lsn ?? '');
}
