/** The relay's statements on the database: what it must prove there at a start, and what it tells readers of the outbox. */
import { FerryError } from '../kernel/errors.ts';
import { formatLsn, type Lsn, parseLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { RelayRun } from './checkpoint.ts';

export interface EpochOrigin {
  readonly consistentPoint: Lsn;
  /** pg_snapshot text: what it shows was committed before the slot. */
  readonly snapshot: string;
  /** Which publication the slot is read by (publication.ts); null in epochs that did not note it. */
  readonly publication: string | null;
}

export interface Epoch {
  readonly epoch: number;
  readonly state: 'creating' | 'live';
  /** Null while the slot is being made. */
  readonly origin: EpochOrigin | null;
}

/** Throws RELAY_WAL_LEVEL when the database cannot be streamed from. */
export async function checkWalLevel(client: Queryable): Promise<void> {
  const { rows } = await client.query<{ wal_level: string }>(`select current_setting('wal_level') as wal_level`);
  if (rows[0]?.wal_level !== 'logical') {
    throw new FerryError('RELAY_WAL_LEVEL', `wal_level is ${rows[0]?.wal_level}; the relay needs logical`);
  }
}

export async function readEpoch(client: Queryable, relay: string): Promise<Epoch | null> {
  const { rows } = await client.query<{
    epoch: number;
    state: 'creating' | 'live';
    consistent_point: string | null;
    snapshot: string | null;
    publication: string | null;
  }>(
    `select epoch, state, consistent_point::text, snapshot::text, publication
       from ferry.relay_epoch where relay = $1 order by epoch desc limit 1`,
    [relay],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const origin =
    row.consistent_point === null || row.snapshot === null
      ? null
      : { consistentPoint: parseLsn(row.consistent_point), snapshot: row.snapshot, publication: row.publication };
  return { epoch: row.epoch, state: row.state, origin };
}

export async function insertEpoch(
  client: Queryable,
  relay: string,
  epoch: number,
  slot: string,
  reason: string,
): Promise<void> {
  await client.query(
    `insert into ferry.relay_epoch (relay, epoch, slot, state, reason) values ($1, $2, $3, 'creating', $4)
     on conflict (relay, epoch) do nothing`,
    [relay, epoch, slot, reason],
  );
}

export async function recordOrigin(
  client: Queryable,
  relay: string,
  epoch: number,
  origin: EpochOrigin,
): Promise<void> {
  await client.query(
    `update ferry.relay_epoch set consistent_point = $3, snapshot = $4::pg_snapshot, publication = $5
      where relay = $1 and epoch = $2`,
    [relay, epoch, formatLsn(origin.consistentPoint), origin.snapshot, origin.publication],
  );
}

export async function markLive(client: Queryable, { relay, run }: RelayRun, epoch: number): Promise<void> {
  await client.query(`update ferry.relay_epoch set state = 'live' where relay = ${OWN_RELAY} and epoch = $3`, [
    relay,
    run,
    epoch,
  ]);
}

/**
 * The relay's name in what is written for it, with the parameters $1 (relay) and $2 (run): the statement fails if another run was counted
 * since. So a relay that froze writes nothing when it wakes up, whatever it was about to.
 */
export const OWN_RELAY = '(select ferry.own_run($1, $2))';

/**
 * Counts this start, of whoever holds the slot: null if that is another walsender than ours. The commit is durable when this resolves, and all
 * that older runs have written is seen.
 */
export async function countRun(
  client: Queryable,
  { relay, slot, walsenderPid }: { relay: string; slot: string; walsenderPid: number },
): Promise<bigint | null> {
  const { rows } = await client.query<{ run: bigint }>(
    `insert into ferry.relay_run (relay, run)
     select $1, 1 from pg_replication_slots where slot_name = $2 and active_pid = $3
     on conflict (relay) do update set run = relay_run.run + 1 returning run`,
    [relay, slot, walsenderPid],
  );
  return rows[0]?.run ?? null;
}

export async function readRun(client: Queryable, relay: string): Promise<bigint> {
  const { rows } = await client.query<{ run: bigint }>('select run from ferry.relay_run where relay = $1', [relay]);
  return rows[0]?.run ?? 0n;
}

export async function readSystemIdentifier(client: Queryable): Promise<string> {
  const { rows } = await client.query<{ id: string }>('select system_identifier::text as id from pg_control_system()');
  return rows[0]?.id ?? '';
}

/** A policy of row-level security would hide rows without an error; with this, reading under one is an error. */
export async function readAllRows(client: Queryable): Promise<void> {
  await client.query('set row_security = off');
}

/** Whether the event is in the outbox, or was in a day of it that retention has taken out. */
export async function isEventPresent(client: Queryable, eventId: string): Promise<boolean> {
  const { rows } = await client.query<{ present: boolean }>(
    `select exists (select 1 from ferry.outbox where id = $1)
         or exists (select 1 from ferry.outbox_retired where $1 >= first_id and $1 < end_id) as present`,
    [eventId],
  );
  return rows[0]?.present === true;
}

/**
 * How many rows of the outbox carry the id of a transaction that this server has not seen end: they were copied from another one. By its
 * transaction id a row is told to be older than a slot, or published; reads the whole outbox.
 */
export async function countForeignRows(client: Queryable): Promise<bigint> {
  const { rows } = await client.query<{ count: bigint }>(
    'select count(*) from ferry.outbox where not pg_visible_in_snapshot(tx, pg_current_snapshot())',
  );
  return rows[0]?.count ?? 0n;
}

/** A day that retention is taking out and may yet put back; null: the outbox is all there. */
export async function findDayBeingRetired(client: Queryable): Promise<string | null> {
  const { rows } = await client.query<{ day: string }>(
    'select day::text from ferry.outbox_retired where dropped_at is null order by day limit 1',
  );
  return rows[0]?.day ?? null;
}

/** Tells ferry.outbox_status that every transaction visible in `snapshot` is published. */
export async function recordProgress(
  client: Queryable,
  { relay, run }: RelayRun,
  snapshot: string,
  lsn: Lsn,
): Promise<void> {
  await client.query(
    `insert into ferry.relay_progress (relay, published_snapshot, published_lsn)
     values (${OWN_RELAY}, $3::pg_snapshot, $4)
     on conflict (relay) do update
       set published_snapshot = excluded.published_snapshot, published_lsn = excluded.published_lsn, published_at = clock_timestamp()`,
    [relay, run, snapshot, formatLsn(lsn)],
  );
}

/**
 * A heartbeat: a transactional message, so that it has a place in the commit order. The snapshot is taken before the message is
 * written: whatever it shows was committed earlier in the WAL.
 */
export async function emitHeartbeat(client: Queryable, prefix: string, nonce: string): Promise<string> {
  const { rows } = await client.query<{ snapshot: string }>(
    'select pg_current_snapshot()::text as snapshot, pg_logical_emit_message(true, $1, $2)',
    [prefix, nonce],
  );
  return rows[0]?.snapshot ?? '';
}

export interface OlderRow {
  readonly id: string;
  readonly seq: bigint;
}

/**
 * Whether everybody sees what the slot's snapshot shows. That is made from the WAL, where a commit stands before the synchronous standby has it
 * which it waits for; until then its transaction is under way for all others.
 */
export async function isSeenByAll(client: Queryable, snapshot: string): Promise<boolean> {
  const { rows } = await client.query<{ seen: boolean }>(
    `select pg_snapshot_xmax(now) >= pg_snapshot_xmax(slot)
            and not exists (select from pg_snapshot_xip(now) as xid where pg_visible_in_snapshot(xid, slot)) as seen
       from (select pg_current_snapshot() as now, $1::pg_snapshot as slot) as snapshots`,
    [snapshot],
  );
  return rows[0]?.seen === true;
}

/** The next rows older than the slot, in order of insertion, behind `rowSeq`: those whose transactions its snapshot shows. */
export async function findOlderRows(
  client: Queryable,
  snapshot: string,
  rowSeq: bigint,
  limit: number,
): Promise<OlderRow[]> {
  const { rows } = await client.query<OlderRow>(
    'select id, seq from ferry.outbox where seq > $2 and pg_visible_in_snapshot(tx, $1::pg_snapshot) order by seq limit $3',
    [snapshot, rowSeq, limit],
  );
  return rows;
}
