/** The statements of retention: one a step, each whole or not done at all. Names of partitions come from the catalogue, never from outside. */
import type { Queryable } from '../postgres/connection.ts';
import type { Hold, OutboxDay } from './retention-holds.ts';

/** Others queue behind us while we wait for a lock. */
const LOCK_TIMEOUT_MS = 2_000;
/** A transaction that has had the outbox open for longer may go on so. */
const BUSY_AFTER_SECONDS = 2;

const BOUNDS = `ferry.uuid_floor(day::timestamp at time zone 'UTC') as "firstId",
  ferry.uuid_floor((day + 1)::timestamp at time zone 'UTC') as "endId"`;

/** Attached days that are older than those kept, the oldest first; one whose detaching is under way is not among them. */
export async function readOldDays(db: Queryable, daysKept: number): Promise<OutboxDay[]> {
  const { rows } = await db.query<OutboxDay & Record<string, unknown>>(
    `select day::text, partition::text, ${BOUNDS} from ferry.outbox_day
     where day < (clock_timestamp() at time zone 'UTC')::date - $1::int
       and not exists (select from ferry.outbox_retired retired where retired.day = outbox_day.day and dropped_at is null)
     order by day`,
    [daysKept],
  );
  return rows;
}

/** As `readOldDays`, for a role that may look at nothing else. */
export async function readOldDayNames(db: Queryable, daysKept: number): Promise<Array<Pick<OutboxDay, 'day'>>> {
  const { rows } = await db.query<{ day: string }>(
    `select day::text from ferry.outbox_day where day < (clock_timestamp() at time zone 'UTC')::date - $1::int order by day`,
    [daysKept],
  );
  return rows;
}

/** Days that a run has noted and not dropped. */
export async function readUnfinished(db: Queryable): Promise<OutboxDay[]> {
  const { rows } = await db.query<OutboxDay & Record<string, unknown>>(
    `select day::text, 'ferry.outbox_' || to_char(day, 'YYYYMMDD') as partition, first_id as "firstId", end_id as "endId"
     from ferry.outbox_retired where dropped_at is null order by day`,
  );
  return rows;
}

/** A transaction that would hold up the detaching, which hides the day from new ones as soon as it begins. */
export async function readBusy(db: Queryable): Promise<Hold | null> {
  const { rows } = await db.query<{ who: string }>(
    `select coalesce(format('backend %s (%s)', activity.pid, activity.application_name), format('prepared transaction %s', gid)) as who
     from pg_locks held
     left join pg_stat_activity activity on activity.pid = held.pid
     left join pg_prepared_xacts prepared on held.pid is null and split_part(held.virtualtransaction, '/', 2) = prepared.transaction::text
     where held.relation = 'ferry.outbox'::regclass and held.database = (select oid from pg_database where datname = current_database())
       and coalesce(activity.xact_start, prepared.prepared) < clock_timestamp() - make_interval(secs => $1) limit 1`,
    [BUSY_AFTER_SECONDS],
  );
  if (rows[0] === undefined) return null;
  return { reason: 'locked', detail: `${rows[0].who} has had the outbox open for more than ${BUSY_AFTER_SECONDS} s` };
}

/** Detaching and dropping are the owner's. */
export async function readForeignOwner(db: Queryable): Promise<Hold | null> {
  const { rows } = await db.query<{ owner: string; owns: boolean; self: string }>(
    `select relowner::regrole::text as owner, pg_has_role(relowner, 'usage') as owns, current_user::text as self
     from pg_class where oid = 'ferry.outbox'::regclass`,
  );
  const [row] = rows;
  if (row === undefined || row.owns) return null;
  return { reason: 'not-owner', detail: `${row.self} is no member of ${row.owner}, which owns the outbox` };
}

/** `detaching`: new transactions do not see it any more, and older ones may. */
export type Attachment = 'attached' | 'detaching' | 'detached' | 'gone';

export async function attachmentOf(db: Queryable, { partition }: OutboxDay): Promise<Attachment> {
  const { rows } = await db.query<{ exists: boolean; pending: boolean | null }>(
    `select to_regclass($1) is not null as exists,
            (select inhdetachpending from pg_inherits where inhrelid = to_regclass($1) and inhparent = 'ferry.outbox'::regclass) as pending`,
    [partition],
  );
  const [row] = rows;
  if (row === undefined || !row.exists) return 'gone';
  if (row.pending === null) return 'detached';
  return row.pending ? 'detaching' : 'attached';
}

/** Rejects with 55P03 if transactions keep the outbox open; the day may then be `detaching`. */
export async function detach(db: Queryable, { partition }: OutboxDay): Promise<void> {
  await underLockTimeout(db, `alter table ferry.outbox detach partition ${partition} concurrently`);
}

/** As `detach`, for a day that is `detaching`. */
export async function finishDetach(db: Queryable, { partition }: OutboxDay): Promise<void> {
  await underLockTimeout(db, `alter table ferry.outbox detach partition ${partition} finalize`);
}

/** Puts a detached day back and forgets that it was to go, both or neither. Its bounds are a constraint since the detaching: no scan. */
export async function attach(db: Queryable, { partition, day, firstId, endId }: OutboxDay): Promise<void> {
  await inTransaction(db, async () => {
    await db.query(
      `alter table ferry.outbox attach partition ${partition} for values from ('${firstId}') to ('${endId}')`,
    );
    await db.query('delete from ferry.outbox_retired where day = $1', [day]);
  });
}

/** Drops a detached day, and records that, both or neither, and `record`'s work too. */
export async function dropDay(db: Queryable, day: OutboxDay, record: (tx: Queryable) => Promise<void>): Promise<void> {
  await inTransaction(db, async () => {
    await db.query(`drop table ${day.partition}`);
    await noteDropped(db, day);
    await record(db);
  });
}

/** With the day goes what operators have made of its events, whose payloads are to be kept no longer. */
export async function noteDropped(db: Queryable, { day, firstId, endId }: OutboxDay): Promise<void> {
  await db.query('delete from ferry.event_patch where event_id >= $1 and event_id < $2', [firstId, endId]);
  await db.query('update ferry.outbox_retired set dropped_at = clock_timestamp() where day = $1', [day]);
}

async function inTransaction(db: Queryable, work: () => Promise<void>): Promise<void> {
  await db.query('begin');
  try {
    await db.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await work();
    await db.query('commit');
  } catch (error) {
    await db.query('rollback');
    throw error;
  }
}

async function underLockTimeout(db: Queryable, statement: string): Promise<void> {
  await db.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
  try {
    await db.query(statement);
  } finally {
    await db.query('reset lock_timeout');
  }
}
