/** The database's clock, which is the one that rows are stamped by. */
import type { Queryable } from './connection.ts';

/** What it shows now, and in `laterMs`: RFC 3339 in UTC with microseconds. */
export async function readClock(db: Queryable, laterMs = 0): Promise<{ readonly now: string; readonly later: string }> {
  const { rows } = await db.query<{ now: string; later: string }>(
    `select now, now + $1::double precision * interval '1 millisecond' as later
     from (select clock_timestamp() as now offset 0) as clock`,
    [laterMs],
  );
  if (rows[0] === undefined) throw new Error('the database has no clock');
  return rows[0];
}
