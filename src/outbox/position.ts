/**
 * Positions, as writers get them and readers bring them back (docs/CONSUMERS.md): an LSN at or behind the end of a commit. What is published up
 * to there holds the commit.
 */
import type { Queryable } from '../postgres/connection.ts';

/**
 * The end of the WAL as of now, as text: asked for after a commit, on any connection to the primary, it lies at or behind the commit's end.
 */
export async function currentPosition(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn');
  const position = rows[0]?.lsn;
  if (position === undefined) throw new Error('Postgres told no position');
  return position;
}
