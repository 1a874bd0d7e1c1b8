/**
 * Dead letters of consumer groups, where the group's inbox is: telling the group what is to become of one, and looking what has. Everything here
 * may be done twice: the inbox knows what was done.
 */
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { LetterToTell, LetterToWatch } from './told-letters.ts';
import type { GroupFacts } from './verdict.ts';

/** Whether this database holds the group's inbox, as far as can be seen. */
export async function knowsGroup(db: Queryable, group: string): Promise<boolean> {
  const { rows } = await db.query<{ known: boolean }>(
    `select exists (select from ferry.inbox where consumer_group = $1)
         or exists (select from ferry.parked_key where consumer_group = $1) as known`,
    [group],
  );
  return rows[0]?.known === true;
}

/**
 * Tells the group: a discarded event is marked so in the inbox; for one that is to be taken up again its parked key is released, or, if no key
 * holds it, the one event is sent back.
 */
export function tellGroup(pool: Pool, letter: LetterToTell): Promise<void> {
  return transaction(pool, async (tx) => {
    if (letter.state === 'discarded') return discard(tx, letter);
    if (letter.patchedValue !== null) await patch(tx, letter, letter.patchedValue);
    if (!(await releaseKeyOf(tx, letter))) await sendBack(tx, letter);
  });
}

async function discard(tx: Queryable, { group, eventId, recordedAt }: LetterToTell): Promise<void> {
  await tx.query(
    `update ferry.inbox set outcome = 'discarded', processed_at = clock_timestamp()
     where consumer_group = $1 and event_id = $2 and recorded_at = $3 and outcome in ('parked', 'dead-lettered')`,
    [group, eventId, recordedAt],
  );
}

async function patch(tx: Queryable, { group, eventId }: LetterToTell, value: Buffer): Promise<void> {
  await tx.query(
    `insert into ferry.inbox_patch (consumer_group, event_id, value) values ($1, $2, $3)
     on conflict (consumer_group, event_id) do update set value = excluded.value, patched_at = clock_timestamp()`,
    [group, eventId, value],
  );
}

/** False if the event does not wait for a key. */
async function releaseKeyOf(tx: Queryable, letter: LetterToTell): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update ferry.parked_key set release_requested_at = coalesce(release_requested_at, clock_timestamp())
     where consumer_group = $1 and topic = $2 and key = $3
       and exists (select from ferry.inbox
                   where consumer_group = $1 and event_id = $4 and recorded_at = $5 and outcome = 'parked')`,
    [letter.group, letter.sourceTopic, letter.key, letter.eventId, letter.recordedAt],
  );
  return rowCount === 1;
}

async function sendBack(tx: Queryable, letter: LetterToTell): Promise<void> {
  const [, partition = '0', offset = '0'] = /^(\d+)\/(\d+)$/.exec(letter.sourcePosition) ?? [];
  await tx.query(
    `insert into ferry.inbox_retry
            (id, consumer_group, event_id, recorded_at, topic, partition, record_offset, key, value, headers, carried)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (id) do nothing`,
    [
      ...[letter.retryId, letter.group, letter.eventId, letter.recordedAt, letter.sourceTopic, partition, offset],
      ...[letter.key, letter.value, JSON.stringify(letter.headers), letter.originalRecord === 'value'],
    ],
  );
}

interface FactsRow {
  readonly id: string;
  readonly outcome: GroupFacts['outcome'];
  readonly releasing: boolean;
  readonly behind: string | null;
  readonly parkedCode: string | null;
  readonly retryOutcome: 'applied' | 'discarded' | 'failed' | null;
  readonly retryCode: string | null;
  readonly retryMessage: string | null;
}

/**
 * What this database says of the letters, by letter; nothing of those of which it knows nothing. One statement, so one moment. The list of
 * their times leaves out the inbox's other days, which a join does not.
 */
export async function groupFacts(db: Queryable, letters: readonly LetterToWatch[]): Promise<Map<string, GroupFacts>> {
  const { rows } = await db.query<FactsRow>(
    `select letter.id, inbox.outcome, parked.release_requested_at is not null as releasing, parked.event_id as behind,
            parked.error_code as "parkedCode", retry.outcome as "retryOutcome", retry.error_code as "retryCode",
            retry.error_message as "retryMessage"
     from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[], $6::bytea[], $7::uuid[])
       as letter (id, consumer_group, event_id, recorded_at, topic, key, retry_id)
     left join ferry.inbox on inbox.consumer_group = letter.consumer_group and inbox.event_id = letter.event_id
                          and inbox.recorded_at = letter.recorded_at and inbox.recorded_at = any($4::timestamptz[])
     left join ferry.parked_key parked on parked.consumer_group = letter.consumer_group and parked.topic = letter.topic
                                      and parked.key = letter.key
     left join ferry.inbox_retry retry on retry.id = letter.retry_id
     where inbox.outcome is not null or retry.id is not null`,
    [
      ...[letters.map(({ id }) => id), letters.map(({ group }) => group), letters.map(({ eventId }) => eventId)],
      ...[letters.map(({ recordedAt }) => recordedAt), letters.map(({ sourceTopic }) => sourceTopic)],
      ...[letters.map(({ key }) => key), letters.map(({ retryId }) => retryId)],
    ],
  );
  return new Map(rows.map((row) => [row.id, factsOf(row)]));
}

function factsOf(row: FactsRow): GroupFacts {
  const { outcome, releasing, behind, parkedCode, retryOutcome, retryCode, retryMessage } = row;
  return {
    outcome,
    parked: behind === null ? null : { releasing, behind, code: parkedCode ?? '' },
    retry: retryOutcome === null ? null : { outcome: retryOutcome, code: retryCode ?? '', message: retryMessage ?? '' },
  };
}

/** Forgets retries that ended, and patches whose event no longer waits, that long ago. */
export async function forgetRetries(db: Queryable, days: number): Promise<void> {
  await db.query('delete from ferry.inbox_retry where ended_at < clock_timestamp() - make_interval(days => $1)', [
    days,
  ]);
  await db.query(
    `delete from ferry.inbox_patch patch
     where patched_at < clock_timestamp() - make_interval(days => $1)
       and not exists (select from ferry.inbox where consumer_group = patch.consumer_group and event_id = patch.event_id
                         and outcome in ('parked', 'dead-lettered'))`,
    [days],
  );
}
