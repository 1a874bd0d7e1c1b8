/** The database's clock, which is the one that rows are stamped by. */
import type { Queryable } from './connection.ts';

/** RFC 3339 in UTC with microseconds. */
export async function readClock(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ now: string }>('select clock_timestamp() as now');
  if (rows[0] === undefined) throw new Error('the database has no clock');
  return rows[0].now;
}
