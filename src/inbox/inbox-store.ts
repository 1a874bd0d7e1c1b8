/** The SQL of the inbox (migrations/ferry/0100_inbox.sql): what a consumer group has dealt with, and which keys are parked. */
import type { LogPosition } from '../kafka/topic-writer.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { ConsumedEvent } from './consumed-event.ts';

export type InboxEntry = Pick<ConsumedEvent, 'id' | 'recordedAt'>;
export type Outcome = 'applied' | 'parked' | 'dead-lettered' | 'discarded';

export interface TopicKey {
  readonly topic: string;
  readonly key: Buffer;
}

export interface ParkedKey extends TopicKey {
  /** The event that could not be applied. */
  readonly eventId: string;
}

/** A parked key that an operator has released: what waits has to be applied. */
export interface ReleasedKey extends ParkedKey {
  readonly events: bigint;
  readonly first: LogPosition;
}

/** The time that the inbox can speak for: it knows what was consumed of events recorded in it. RFC 3339, `to` is exclusive. */
export interface InboxHorizon {
  readonly from: string;
  readonly to: string;
}

/** Null when the inbox has no partition at all. */
export async function readHorizon(db: Queryable): Promise<InboxHorizon | null> {
  const { rows } = await db.query<{ from: string | null; to: string | null }>(
    `select to_char(min(day), 'YYYY-MM-DD"T00:00:00Z"') as from, to_char(max(day) + 1, 'YYYY-MM-DD"T00:00:00Z"') as to
     from ferry.inbox_day`,
  );
  const { from = null, to = null } = rows[0] ?? {};
  return from === null || to === null ? null : { from, to };
}

/**
 * Enters the events into the group's inbox; resolves with the ids that were not there. Waits for another member that is just dealing with one
 * of them, so that only one of the two goes on. All enter them in the order of their ids, so that no two wait for each other.
 */
export async function claim(
  tx: Queryable,
  group: string,
  events: readonly InboxEntry[],
  outcome: Outcome,
): Promise<Set<string>> {
  const { rows } = await tx.query<{ event_id: string }>(
    `insert into ferry.inbox (consumer_group, event_id, recorded_at, outcome)
     select $1, event_id, recorded_at, $4 from unnest($2::uuid[], $3::timestamptz[]) as event(event_id, recorded_at)
     order by event_id
     on conflict do nothing
     returning event_id`,
    [group, events.map(({ id }) => id), events.map(({ recordedAt }) => recordedAt), outcome],
  );
  return new Set(rows.map((row) => row.event_id));
}

/** Takes events out of the inbox again that this transaction has entered, as if it had not; others stay. */
export async function unclaim(tx: Queryable, group: string, events: readonly InboxEntry[]): Promise<void> {
  const values = [group, events.map(({ id }) => id), events.map(({ recordedAt }) => recordedAt)];
  await tx.query('select ferry.inbox_unclaim($1, $2::uuid[], $3::timestamptz[])', values);
}

/** Takes a parked event to be applied; false if it was applied or discarded meanwhile. */
export async function claimParked(tx: Queryable, group: string, { id, recordedAt }: InboxEntry): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update ferry.inbox set outcome = 'applied', processed_at = clock_timestamp()
     where consumer_group = $1 and event_id = $2 and recorded_at = $3 and outcome = 'parked'`,
    [group, id, recordedAt],
  );
  return rowCount === 1;
}

/** Ids of those events that the inbox has. */
export async function known(db: Queryable, group: string, events: readonly InboxEntry[]): Promise<Set<string>> {
  const { rows } = await db.query<{ event_id: string }>(
    `select event_id from ferry.inbox
     where consumer_group = $1
       and recorded_at = any ($3::timestamptz[]) -- a list prunes partitions, a join does not
       and (event_id, recorded_at) in (select * from unnest($2::uuid[], $3::timestamptz[]))`,
    [group, events.map(({ id }) => id), events.map(({ recordedAt }) => recordedAt)],
  );
  return new Set(rows.map((row) => row.event_id));
}

/** Those of the keys that are parked. Asked after the claim: another member may have parked one while the claim waited for it. */
export async function parkedAmong(tx: Queryable, group: string, keys: readonly TopicKey[]): Promise<ParkedKey[]> {
  const { rows } = await tx.query<{ topic: string; key: Buffer; event_id: string }>(
    `select topic, key, event_id from ferry.parked_key
     where consumer_group = $1 and (topic, key) in (select * from unnest($2::text[], $3::bytea[]))`,
    [group, keys.map(({ topic }) => topic), keys.map(({ key }) => key)],
  );
  return rows.map(({ topic, key, event_id: eventId }) => ({ topic, key, eventId }));
}

export interface Parking extends ParkedKey {
  readonly partition: number;
  readonly errorCode: string;
  readonly events: number;
  /** Where the first of these events stands in the dead-letter topic. */
  readonly first: LogPosition;
}

/** Parks a key; of one that another member has parked meanwhile only the count grows. */
export async function park(tx: Queryable, group: string, parking: Parking): Promise<void> {
  await tx.query(
    `insert into ferry.parked_key as parked
            (consumer_group, topic, key, source_partition, event_id, error_code, events, dead_letter_partition, dead_letter_offset)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (consumer_group, topic, key) do update set events = parked.events + excluded.events`,
    [
      group,
      parking.topic,
      parking.key,
      parking.partition,
      parking.eventId,
      parking.errorCode,
      parking.events,
      parking.first.partition,
      parking.first.offset,
    ],
  );
}

/** Counts further events of a parked key, and keeps it from being released until the transaction ends; false if it is parked no more. */
export async function countFollowers(
  tx: Queryable,
  group: string,
  { topic, key }: TopicKey,
  events: number,
): Promise<boolean> {
  const { rowCount } = await tx.query(
    'update ferry.parked_key set events = events + $4 where consumer_group = $1 and topic = $2 and key = $3',
    [group, topic, key, events],
  );
  return rowCount === 1;
}

/**
 * What the inbox says of an event in the dead-letter topic. `unknown`: it does not have it (yet); `forgotten`: nobody can know any more, since
 * its day was dropped.
 */
export async function inboxState(
  db: Queryable,
  group: string,
  { id, recordedAt }: InboxEntry,
): Promise<Outcome | 'unknown' | 'forgotten'> {
  const { rows } = await db.query<{ outcome: Outcome }>(
    'select outcome from ferry.inbox where consumer_group = $1 and event_id = $2 and recorded_at = $3',
    [group, id, recordedAt],
  );
  if (rows[0] !== undefined) return rows[0].outcome;
  const horizon = await readHorizon(db);
  return horizon !== null && recordedAt < horizon.from ? 'forgotten' : 'unknown';
}

/** Whether an event is parked; by its id alone, so in all days that the inbox remembers. */
export async function isParked(db: Queryable, group: string, eventId: string): Promise<boolean> {
  const { rows } = await db.query<{ parked: boolean }>(
    `select exists (select from ferry.inbox where consumer_group = $1 and event_id = $2 and outcome = 'parked') as parked`,
    [group, eventId],
  );
  return rows[0]?.parked === true;
}

/** Keys of these partitions that an operator has released, the longest parked first. */
export async function releasedKeys(
  db: Queryable,
  group: string,
  partitions: ReadonlyArray<{ topic: string; partition: number }>,
): Promise<ReleasedKey[]> {
  const { rows } = await db.query<{
    topic: string;
    key: Buffer;
    event_id: string;
    events: bigint;
    dead_letter_partition: number;
    dead_letter_offset: bigint;
  }>(
    `select topic, key, event_id, events, dead_letter_partition, dead_letter_offset from ferry.parked_key
     where consumer_group = $1 and release_requested_at is not null
       and (topic, source_partition) in (select * from unnest($2::text[], $3::int[]))
     order by parked_at limit 100`,
    [group, partitions.map(({ topic }) => topic), partitions.map(({ partition }) => partition)],
  );
  return rows.map((row) => ({
    topic: row.topic,
    key: row.key,
    eventId: row.event_id,
    events: row.events,
    first: { partition: row.dead_letter_partition, offset: row.dead_letter_offset },
  }));
}

/** Ends the parking of a key; false if more events were parked meanwhile. */
export async function unpark(db: Queryable, group: string, { topic, key, events }: ReleasedKey): Promise<boolean> {
  const { rowCount } = await db.query(
    'delete from ferry.parked_key where consumer_group = $1 and topic = $2 and key = $3 and events = $4',
    [group, topic, key, events],
  );
  return rowCount === 1;
}

/** The release came to an event that still cannot be applied: the key stays parked behind that one, `passed` events fewer wait. */
export async function parkAgain(
  db: Queryable,
  group: string,
  { topic, key }: TopicKey,
  failed: { eventId: string; errorCode: string; at: LogPosition; passed: number },
): Promise<void> {
  await db.query(
    `update ferry.parked_key
     set release_requested_at = null, event_id = $4, error_code = $5, dead_letter_offset = $6, events = greatest(events - $7, 1)
     where consumer_group = $1 and topic = $2 and key = $3`,
    [group, topic, key, failed.eventId, failed.errorCode, failed.at.offset, failed.passed],
  );
}
