/** How far the relay is behind, and whether messages emitted now will be read by it at all. */
import type { Queryable } from '../postgres/connection.ts';

export interface RelayLag {
  /** Of the relay's position: a later one began at a slot of its own. */
  readonly epoch: number;
  /** WAL between what the relay has confirmed and the server's end. */
  readonly bytes: number;
}

/** Null where there is no slot to read from: the relay has never run, or its slot is being made or is gone. */
export async function readRelayLag(db: Queryable, relay: string): Promise<RelayLag | null> {
  const { rows } = await db.query<{ epoch: number; bytes: number | null }>(
    `select epoch.epoch, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), slot.confirmed_flush_lsn)::float8 as bytes
     from (select * from ferry.relay_epoch where relay = $1 order by epoch desc limit 1) epoch
     join pg_replication_slots slot on slot.slot_name = epoch.slot and slot.database = current_database()
     where epoch.state = 'live'`,
    [relay],
  );
  const row = rows[0];
  return row === undefined || row.bytes === null ? null : { epoch: row.epoch, bytes: row.bytes };
}
