/** The SQL by which letters change their state after they are entered: what their owners are to be told, and what has become of them. */
import type { Queryable } from '../postgres/connection.ts';
import { type DeadLetterState, statesBefore } from './states.ts';
import type { Verdict, WatchedLetter } from './verdict.ts';

/** A letter whose owner is to be told that it is to be taken up once more, or never. */
export interface LetterToTell extends WatchedLetter {
  readonly id: string;
  readonly group: string | null;
  readonly recordedAt: string;
  readonly sourceTopic: string;
  readonly sourcePosition: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly originalRecord: string;
  readonly retryId: string | null;
  readonly by: string;
  readonly reason: string;
  /** JSON text. */
  readonly patched: string | null;
  readonly patchedValue: Buffer | null;
}

/** What is looked up of a letter to see what has become of it. */
export interface LetterToWatch extends WatchedLetter {
  readonly id: string;
  readonly group: string | null;
  readonly recordedAt: string;
  readonly sourceTopic: string;
  readonly key: Buffer | null;
  readonly retryId: string | null;
  readonly toldLsn: string | null;
}

/** Behind `after`: the first are not in the way of the others while their owner cannot be told. */
export async function lettersToTell(db: Queryable, after: string, limit: number): Promise<LetterToTell[]> {
  const { rows } = await db.query<LetterToTell>(
    `select id, consumer_group as "group", event_id as "eventId", recorded_at as "recordedAt", source_topic as "sourceTopic",
            source_position as "sourcePosition", key, value, headers, original_record as "originalRecord", state, retry_id as "retryId",
            coalesce(state_by, '') as by, coalesce(state_reason, '') as reason, patched::text, patched_value as "patchedValue"
     from ferry.dead_letter
     where told_at is null and state in ('replaying', 'discarded') and id > $1 and event_id is not null order by id limit $2`,
    [after, limit],
  );
  return rows;
}

/** Its owner has been told; `lsn` is behind what a relay was told. No effect if something else was decided meanwhile. */
export async function markTold(db: Queryable, letter: LetterToTell, lsn: string | null): Promise<void> {
  await db.query(
    `update ferry.dead_letter set told_at = clock_timestamp(), told_lsn = $4
     where id = $1 and state = $2 and retry_id is not distinct from $3 and told_at is null`,
    [letter.id, letter.state, letter.retryId, lsn],
  );
}

/** Retries of the relay's letters that are not known to have been told: the relay may have been asked under them, and will be again. */
export async function untoldRetries(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ retry_id: string }>(
    `select retry_id from ferry.dead_letter
     where told_at is null and state in ('replaying', 'discarded') and consumer_group is null and retry_id is not null`,
  );
  return rows.map((row) => row.retry_id);
}

/** Letters in a state whose owner has nothing more to be told, behind `after`. */
export async function lettersToWatch(
  db: Queryable,
  state: DeadLetterState,
  after: string,
  limit: number,
): Promise<LetterToWatch[]> {
  const { rows } = await db.query<LetterToWatch>(
    `select id, consumer_group as "group", event_id as "eventId", recorded_at as "recordedAt", source_topic as "sourceTopic", key, state,
            retry_id as "retryId", told_lsn::text as "toldLsn"
     from ferry.dead_letter
     where state = $1 and id > $2 and event_id is not null and (told_at is not null or state = 'open') order by id limit $3`,
    [state, after, limit],
  );
  return rows;
}

/** Enters what has become of a letter, unless somebody has decided something else meanwhile. Resolves true if it did. */
export async function settle(
  db: Queryable,
  letter: Pick<LetterToWatch, 'id' | 'state' | 'retryId'>,
  verdict: NonNullable<Verdict>,
): Promise<boolean> {
  if (!statesBefore(verdict.state).includes(letter.state)) return false;
  const { code, message } = verdict.state === 'open' ? verdict : { code: null, message: null };
  const { rowCount } = await db.query(
    `update ferry.dead_letter
     set state = $4, state_at = clock_timestamp(), told_at = coalesce(told_at, clock_timestamp()),
         code = coalesce($5, code), error_message = coalesce($6, error_message),
         failed_at = case when $4 = 'open' then clock_timestamp() else failed_at end
     where id = $1 and state = $2 and retry_id is not distinct from $3`,
    [letter.id, letter.state, letter.retryId, verdict.state, code, message],
  );
  return rowCount === 1;
}

/** For how many days letters that were dealt with are kept, by event type; null: of records that have none. */
export type KeptDays = ReadonlyMap<string | null, number>;

/** The types of the letters that were dealt with. */
export async function settledTypes(db: Queryable): Promise<Array<string | null>> {
  const { rows } = await db.query<{ event_type: string | null }>(
    `select distinct event_type from ferry.dead_letter where state in ('resolved', 'discarded')`,
  );
  return rows.map((row) => row.event_type);
}

const KEPT = 'join unnest($1::text[], $2::int[]) as kept (type, days) on kept.type is not distinct from event_type';
const OVER = 'state_at < clock_timestamp() - make_interval(days => kept.days)';

/**
 * Forgets what was dealt with that long ago; returns how many letters. Open ones stay, discarded ones whose owner is still to be told, and those
 * of these events: a relay holds them parked still, and is to leave them out one day.
 */
export async function forgetSettled(
  db: Queryable,
  kept: KeptDays,
  limit: number,
  parked: readonly string[],
): Promise<number> {
  const { rowCount } = await db.query(
    `delete from ferry.dead_letter where id in (
       select id from ferry.dead_letter ${KEPT}
       where state in ('resolved', 'discarded') and ${OVER}
         and (state = 'resolved' or told_at is not null or event_id is null)
         and not (consumer_group is null and state = 'discarded' and event_id = any ($4::uuid[]))
       limit $3)`,
    [[...kept.keys()], [...kept.values()], limit, parked],
  );
  return rowCount ?? 0;
}

/** Events of the relay's letters that were discarded that long ago. */
export async function discardedOfRelay(db: Queryable, kept: KeptDays): Promise<string[]> {
  const { rows } = await db.query<{ event_id: string }>(
    `select event_id from ferry.dead_letter ${KEPT}
     where consumer_group is null and state = 'discarded' and event_id is not null and ${OVER}`,
    [[...kept.keys()], [...kept.values()]],
  );
  return rows.map((row) => row.event_id);
}

export interface StoreDepth {
  readonly open: number;
  readonly replaying: number;
  /** Of the oldest that is open; 0 if none is. */
  readonly oldestAgeSeconds: number;
}

export async function measureStore(db: Queryable): Promise<StoreDepth> {
  const { rows } = await db.query<StoreDepth>(
    `select count(*) filter (where state = 'open')::int as open, count(*) filter (where state = 'replaying')::int as replaying,
            coalesce(extract(epoch from clock_timestamp() - min(first_failed_at) filter (where state = 'open')), 0)::float8 as "oldestAgeSeconds"
     from ferry.dead_letter where state in ('open', 'replaying')`,
  );
  return rows[0] ?? { open: 0, replaying: 0, oldestAgeSeconds: 0 };
}
