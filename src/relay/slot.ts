/** The relay's replication slot as the database shows it. Slots are the server's, not the database's: a name says nothing of whose it is. */
import { type Lsn, parseLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';

export interface SlotFacts {
  readonly activePid: number | null;
  readonly confirmedFlushLsn: Lsn;
  /** WAL between the confirmed position and the end, in bytes. */
  readonly lagBytes: number;
  /** WAL that may still be written before the slot is lost; null without a limit. */
  readonly safeWalBytes: number | null;
}

export async function readSlot(client: Queryable, slot: string): Promise<SlotFacts | null> {
  const { rows } = await client.query<{
    active_pid: number | null;
    confirmed: string | null;
    lag: string;
    safe: bigint | null;
  }>(
    `select active_pid, confirmed_flush_lsn::text as confirmed, safe_wal_size as safe,
            pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::text as lag
       from pg_replication_slots where slot_name = $1`,
    [slot],
  );
  const row = rows[0];
  if (row === undefined || row.confirmed === null) return null;
  return {
    activePid: row.active_pid,
    confirmedFlushLsn: parseLsn(row.confirmed),
    lagBytes: Number(row.lag),
    safeWalBytes: row.safe === null ? null : Number(row.safe),
  };
}

export interface SlotOwner {
  /** Null for a physical slot. */
  readonly database: string | null;
  /** Whether that is the database that we are connected to. */
  readonly isOurs: boolean;
}

/** Whose the slot is; null if there is none of that name. */
export async function readSlotOwner(client: Queryable, slot: string): Promise<SlotOwner | null> {
  const { rows } = await client.query<{ database: string | null; is_ours: boolean }>(
    `select database::text, coalesce(database = current_database(), false) as is_ours
       from pg_replication_slots where slot_name = $1`,
    [slot],
  );
  return rows[0] === undefined ? null : { database: rows[0].database, isOurs: rows[0].is_ours };
}

export async function dropSlot(client: Queryable, slot: string): Promise<void> {
  await client.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [
    slot,
  ]);
}

/** Transactions, prepared ones too, that hold the WAL back: who (gid, or pid and name) and for how long. The ten oldest. */
export async function readRunningTransactions(client: Queryable, olderThanSeconds = 0): Promise<string[]> {
  const { rows } = await client.query<{ who: string }>(
    `select who || ', ' || date_trunc('second', clock_timestamp() - began) || ' old' as who
       from (select format('prepared transaction %L', gid) as who, prepared as began from pg_prepared_xacts
              union all
             select format('pid %s (%s)', pid, application_name), xact_start
               from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()) running
      where began < clock_timestamp() - make_interval(secs => $1)
      order by began limit 10`,
    [olderThanSeconds],
  );
  return rows.map((row) => row.who);
}
