/**
 * A participant's own database is its alone. Two addresses may lead to one database without looking alike; then two relays would publish one
 * outbox, each event twice. What a database holds tells.
 */
import { OWN_DATABASE_NAMES, type OwnDatabaseName, variableOf } from '../config/databases.ts';
import type { Queryable } from './connection.ts';

/** What is wrong with the database as `own`'s; null if nothing is, or if it is the main one, which may hold everything. */
export async function describeSharing(db: Queryable, own: OwnDatabaseName | undefined): Promise<string | null> {
  if (own === undefined) return null;
  const foreign = ['commerce', ...OWN_DATABASE_NAMES.filter((name) => name !== own)];
  const { rows } = await db.query<{ names: string | null }>(
    `select string_agg(nspname, ', ' order by nspname) as names from pg_namespace where nspname = any ($1)`,
    [foreign],
  );
  const names = rows[0]?.names ?? null;
  if (names === null) return null;
  return (
    `${variableOf(own)} leads to a database that is not ${own}'s own: it holds the schemas of ${names}. ` +
    `Name another database, or leave the variable unset`
  );
}
