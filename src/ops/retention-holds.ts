/** Why a day of the outbox must stay, however old it is: what still needs its rows. Reads only. */
import type { Queryable } from '../postgres/connection.ts';

export const HOLD_REASONS = [
  /** No relay has ever begun: nobody has published anything. */
  'no-relay',
  /** A relay has not told that it has published all of the day. */
  'unpublished',
  /** A dead letter that nobody has dealt with may be published from its row. */
  'dead-letter',
  /** An event of it waits in a consumer group, behind one that could not be applied. */
  'parked-key',
  /** The dead letter's bytes are nowhere but in the row. */
  'claim-check',
  /** A replay that has not ended may select rows of it. */
  'replay',
  /** A transaction holds the outbox open for longer than its detaching may wait. */
  'locked',
  /** The role of this connection does not own the outbox. */
  'not-owner',
] as const;
export type HoldReason = (typeof HOLD_REASONS)[number];

export interface Hold {
  readonly reason: HoldReason;
  /** In words: whose, how many, the first of them. */
  readonly detail: string;
}

/** A day's partition, attached or not, and the ids that it takes: from `firstId` to below `endId`. */
export interface OutboxDay {
  readonly day: string;
  readonly partition: string;
  readonly firstId: string;
  readonly endId: string;
}

export interface DayFacts {
  readonly rows: bigint;
  /** The first reason found; null: nothing needs the day. */
  readonly hold: Hold | null;
}

/** What each relay has told, and whether it told it in its present epoch: a new one first publishes what is older than its slot. */
export interface RelayFacts extends Record<string, unknown> {
  readonly relay: string;
  readonly streams: boolean;
  readonly publishedLsn: string | null;
}

export async function readRelays(db: Queryable): Promise<RelayFacts[]> {
  const { rows } = await db.query<RelayFacts>(
    `select epoch.relay, progress.published_lsn::text as "publishedLsn",
            -- a heartbeat's snapshot is newer than the epoch's only if it was sent in that epoch, after the backfill
            coalesce(pg_snapshot_xmax(progress.published_snapshot) >= pg_snapshot_xmax(epoch.snapshot), false) as streams
     from (select distinct on (relay) relay, snapshot from ferry.relay_epoch order by relay, epoch desc) epoch
     left join ferry.relay_progress progress using (relay) order by relay`,
  );
  return rows;
}

/** Looks at what costs little first; `rows` is counted in any case. */
export async function inspectDay(db: Queryable, deadLetters: Queryable, day: OutboxDay): Promise<DayFacts> {
  const relays = await readRelays(db);
  const { rows, unpublished } = await countRows(db, day);
  const hold =
    holdByRelays(relays) ??
    (await holdByDeadLetters(db, deadLetters, day)) ??
    (await holdByParkedKeys(db, day)) ??
    (await holdByReplays(db, day)) ??
    (unpublished === null
      ? null
      : { reason: 'unpublished', detail: `relay ${unpublished.relay} has not published ${unpublished.count} rows` });
  return { rows, hold };
}

export function holdByRelays(relays: readonly RelayFacts[]): Hold | null {
  if (relays.length === 0) return { reason: 'no-relay', detail: 'no relay has ever begun here' };
  const behind = relays.find(({ streams }) => !streams);
  if (behind === undefined) return null;
  return { reason: 'unpublished', detail: `relay ${behind.relay} has begun anew and not told how far it is` };
}

/** One pass over the partition: which transactions are published is known by snapshot, as ferry.outbox_status knows it. */
async function countRows(
  db: Queryable,
  { partition }: OutboxDay,
): Promise<{ rows: bigint; unpublished: { relay: string; count: bigint } | null }> {
  const { rows } = await db.query<{ rows: bigint; relay: string | null; count: bigint }>(
    `with relay as (
       select relay, published_snapshot from ferry.relay_progress where relay in (select relay from ferry.relay_epoch)
     )
     select count(distinct event.id) as rows, relay.relay,
            count(*) filter (where not pg_visible_in_snapshot(event.tx, relay.published_snapshot)) as count
     from ${partition} event left join relay on true group by relay.relay order by count desc, relay.relay limit 1`,
  );
  const [worst] = rows;
  if (worst === undefined) return { rows: 0n, unpublished: null };
  const { relay, count } = worst;
  return { rows: worst.rows, unpublished: relay === null || count === 0n ? null : { relay, count } };
}

/** What relays have noted is theirs until the store says that somebody has dealt with it; what the store has open counts, whose ever it is. */
async function holdByDeadLetters(db: Queryable, store: Queryable, { firstId, endId }: OutboxDay): Promise<Hold | null> {
  const noted = await db.query<{ id: string }>(
    `select event_id::text as id from ferry.relay_dead_letter
     where event_id >= $1 and event_id < $2 and resolution is distinct from 'discarded' order by event_id`,
    [firstId, endId],
  );
  const { rows } = await store.query<{ id: string; state: string; relays: boolean; claimed: boolean }>(
    `select event_id::text as id, state, consumer_group is null as relays, original_record like 'outbox:%' as claimed
     from ferry.dead_letter where event_id >= $1 and event_id < $2`,
    [firstId, endId],
  );
  const isOpen = ({ state }: { state: string }) => state === 'open' || state === 'replaying';
  const open = rows.filter(isOpen);
  const settled = new Set(rows.filter((letter) => letter.relays && !isOpen(letter)).map(({ id }) => id));
  const ids = new Set([
    ...open.map(({ id }) => id),
    ...noted.rows.map(({ id }) => id).filter((id) => !settled.has(id)),
  ]);
  const claimed = open.find((letter) => letter.claimed);
  if (claimed !== undefined) {
    return { reason: 'claim-check', detail: `the dead letter of event ${claimed.id} refers to its row` };
  }
  const [first] = [...ids].sort();
  if (first === undefined) return null;
  return {
    reason: 'dead-letter',
    detail: `${ids.size} events whose dead letters nobody has dealt with, first ${first}`,
  };
}

async function holdByParkedKeys(db: Queryable, { firstId, endId }: OutboxDay): Promise<Hold | null> {
  const { rows } = await db.query<{ count: bigint; first: string }>(
    // An event is recorded within a day before and an hour after the time in its id: two days are enough to leave other partitions alone
    `select count(*), min(event_id::text) as first from ferry.inbox
     where exists (select from ferry.parked_key) and outcome = 'parked' and event_id >= $1 and event_id < $2
       and recorded_at > $3::date - 1 and recorded_at < $3::date + 3`,
    [firstId, endId, dayOfId(firstId)],
  );
  const [found] = rows;
  if (found === undefined || found.count === 0n) return null;
  return {
    reason: 'parked-key',
    detail: `${found.count} events that wait for the release of their key, first ${found.first}`,
  };
}

/** One that has not ended reads rows by their seq, between the first and the last that there were when it began. */
async function holdByReplays(db: Queryable, { partition }: OutboxDay): Promise<Hold | null> {
  const { rows } = await db.query<{ id: string }>(
    `select id from ferry.replay where ended_at is null
       and exists (select from ${partition} event where event.seq between first_seq and last_seq) order by id limit 1`,
  );
  if (rows[0] === undefined) return null;
  return { reason: 'replay', detail: `replay ${rows[0].id} has not ended and may read its rows` };
}

/** The UTC day in the time of a UUIDv7. */
function dayOfId(id: string): string {
  return new Date(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)).toISOString().slice(0, 10);
}
