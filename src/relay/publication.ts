/**
 * The publication that a slot is read by. pgoutput looks it up as it was at the time of each transaction; where it is missing, Postgres 15
 * to 17 end the stream with an error and 18 leaves the rows out without one (seen on 18.4). So it must be there unbroken, from before
 * the slot to now, and the relay looks again with every heartbeat.
 */
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';

/**
 * What tells it from one of the same name that is made later: its oids. Throws RELAY_PUBLICATION_MISSING when it does not publish the
 * inserts of ferry.outbox, all of them, under that name.
 */
export async function readPublication(client: Queryable, publication: string): Promise<string> {
  const { rows } = await client.query<{ identity: string }>(
    `select concat_ws('/', p.oid, r.oid, n.oid) as identity
       from pg_publication p
       join pg_publication_tables t on t.pubname = p.pubname and t.schemaname = 'ferry' and t.tablename = 'outbox'
       left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = to_regclass('ferry.outbox')
       left join pg_publication_namespace n on n.pnpubid = p.oid and n.pnnspid = to_regnamespace('ferry')
      where p.pubname = $1 and p.pubinsert and t.rowfilter is null`,
    [publication],
  );
  const identity = rows[0]?.identity;
  if (identity !== undefined) return identity;
  throw new FerryError(
    'RELAY_PUBLICATION_MISSING',
    `publication ${publication} does not publish the inserts of ferry.outbox`,
  );
}

/** Throws RELAY_PUBLICATION_CHANGED unless it is the one that the epoch began with. `atBegin` is null in epochs that did not note it. */
export function comparePublication(publication: string, atBegin: string | null, now: string): void {
  if (atBegin === null || atBegin === now) return;
  throw new FerryError(
    'RELAY_PUBLICATION_CHANGED',
    `publication ${publication} was made anew after the slot: rows committed while it was missing are not in the stream`,
  );
}
