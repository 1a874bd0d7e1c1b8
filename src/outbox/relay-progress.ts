/** How far a relay has published, as it tells the database with each heartbeat, and how to get the next one sooner. */
import { relayChannel } from '../events/relay-channel.ts';
import { type Lsn, parseLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';

/** Every transaction that was committed below is in Kafka; null if the relay has never told. */
export async function readPublishedLsn(db: Queryable, relay: string): Promise<Lsn | null> {
  const { rows } = await db.query<{ lsn: string }>(
    'select published_lsn::text as lsn from ferry.relay_progress where relay = $1',
    [relay],
  );
  return rows[0] === undefined ? null : parseLsn(rows[0].lsn);
}

/** Asks for a heartbeat at once; one that does not run is asked in vain. */
export async function requestHeartbeat(db: Queryable, relay: string): Promise<void> {
  await db.query(`select pg_notify($1, '')`, [relayChannel(relay)]);
}
