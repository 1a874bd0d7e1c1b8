/**
 * What the database knows of dead letters: readers of the outbox ask it (ferry.outbox_status), and operators list what is parked. Notes are
 * written before the Kafka transaction that makes them true and, when a dead letter is one no more, settled behind it. A start corrects
 * whatever lies between: by the checkpoint, and by what Kafka holds of the parked keys. Only the newest run writes here (OWN_RELAY).
 */
import type { Position } from '../events/outbox-event.ts';
import { formatLsn, parseLsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { BatchEntry, LedgerNote } from './batch.ts';
import { backfillLsn, type Checkpoint, type RelayRun } from './checkpoint.ts';
import { OWN_RELAY } from './ledger.ts';
import type { ParkedKey, ParkedKeys } from './parked-keys.ts';

interface Row {
  readonly eventId: string;
  readonly position: Position;
  readonly code: string;
  readonly topic: string;
  readonly key: string;
  readonly ordinal: number | null;
  readonly blockedBy: string | null;
}

/** Notes what the entries will be once they are committed. */
export async function noteBefore(client: Queryable, own: RelayRun, entries: readonly BatchEntry[]): Promise<void> {
  const letters = new Map<string, Row>(); // the last counts: one that was parked in this batch may have been refused again in it
  const resolved: Array<{ eventId: string; note: LedgerNote & { kind: 'resolved' } }> = [];
  for (const { eventId, position, note } of entries) {
    if (note?.kind === 'dead-letter') letters.set(eventId, { ...note, eventId, position });
    else if (note?.kind === 'resolved') resolved.push({ eventId, note });
  }
  if (letters.size > 0) await noteDeadLetters(client, own, [...letters.values()]);
  if (resolved.length === 0) return;
  await client.query(
    `update ferry.relay_dead_letter letter
        set resolution = given.resolution, resolved_lsn = given.lsn, resolved_seq = given.seq
       from unnest($3::uuid[], $4::text[], $5::pg_lsn[], $6::int[]) as given (event_id, resolution, lsn, seq)
      where letter.relay = ${OWN_RELAY} and letter.event_id = given.event_id`,
    [
      own.relay,
      own.run,
      resolved.map(({ eventId }) => eventId),
      resolved.map(({ note }) => note.as),
      resolved.map(({ note }) => formatLsn(note.by.commitLsn)),
      resolved.map(({ note }) => note.by.seq),
    ],
  );
}

/** Settles what was resolved, now that it is committed. */
export async function settleAfter(client: Queryable, own: RelayRun, entries: readonly BatchEntry[]): Promise<void> {
  const ids = entries.flatMap(({ eventId, note }) => (note?.kind === 'resolved' ? [eventId] : []));
  if (ids.length > 0) await settle(client, own, ids);
}

async function settle(client: Queryable, { relay, run }: RelayRun, ids: readonly string[]): Promise<void> {
  await client.query(
    `delete from ferry.relay_dead_letter
      where relay = ${OWN_RELAY} and event_id = any($3::uuid[]) and resolution is distinct from 'discarded'`,
    [relay, run, ids],
  );
  await client.query(
    `update ferry.relay_dead_letter set parked = false
      where relay = ${OWN_RELAY} and event_id = any($3::uuid[]) and parked`,
    [relay, run, ids],
  );
}

async function noteDeadLetters(client: Queryable, { relay, run }: RelayRun, rows: readonly Row[]): Promise<void> {
  await client.query(
    `insert into ferry.relay_dead_letter (relay, event_id, commit_lsn, seq, error_code, topic, key, ordinal, parked, blocked_by)
     select ${OWN_RELAY}, event_id, lsn, seq, code, topic, key, ordinal, ordinal is not null, blocked_by
       from unnest($3::uuid[], $4::pg_lsn[], $5::int[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::uuid[])
         as given (event_id, lsn, seq, code, topic, key, ordinal, blocked_by)
     on conflict (relay, event_id) do update
       set commit_lsn = excluded.commit_lsn, seq = excluded.seq, error_code = excluded.error_code, topic = excluded.topic,
           key = excluded.key, ordinal = excluded.ordinal, parked = excluded.parked, blocked_by = excluded.blocked_by,
           resolution = null, resolved_lsn = null, resolved_seq = null, recorded_at = clock_timestamp()`,
    [
      relay,
      run,
      rows.map(({ eventId }) => eventId),
      rows.map(({ position }) => formatLsn(position.commitLsn)),
      rows.map(({ position }) => position.seq),
      rows.map((row) => row.code),
      rows.map((row) => row.topic),
      rows.map((row) => row.key),
      rows.map((row) => row.ordinal),
      rows.map((row) => row.blockedBy),
    ],
  );
}

/**
 * Takes a dead letter that holds nobody up, to publish it: resolves with its place for one message only, however many name it; with null if
 * it is none. Undone at the next start, if what was to come of the message at `by` was not committed.
 */
export async function claimLetter(
  client: Queryable,
  { relay, run }: RelayRun,
  eventId: string,
  by: Position,
): Promise<Position | null> {
  const { rows } = await client.query<{ lsn: string; seq: number }>(
    `update ferry.relay_dead_letter set resolution = 'published', resolved_lsn = $4, resolved_seq = $5
      where relay = ${OWN_RELAY} and event_id = $3 and not parked and resolution is null
      returning commit_lsn::text as lsn, seq`,
    [relay, run, eventId, formatLsn(by.commitLsn), by.seq],
  );
  return rows[0] === undefined ? null : { commitLsn: parseLsn(rows[0].lsn), seq: rows[0].seq };
}

/** Dead letters that wait for somebody. */
export async function countDeadLetters(client: Queryable, relay: string): Promise<number> {
  const { rows } = await client.query<{ count: bigint }>(
    `select count(*) from ferry.relay_dead_letter where relay = $1 and resolution is distinct from 'discarded'`,
    [relay],
  );
  return Number(rows[0]?.count ?? 0n);
}

/** Takes back what was noted of Kafka transactions that were never committed: beyond the checkpoint; and settles the rest of it. */
export async function correctByCheckpoint(client: Queryable, own: RelayRun, checkpoint: Checkpoint): Promise<void> {
  const { endLsn, partial, backfill } = checkpoint;
  const inBackfill = backfill === null ? null : { commitLsn: backfillLsn(endLsn), seq: backfill.count };
  const done = partial ?? inBackfill ?? { commitLsn: endLsn, seq: -1 };
  const place = [own.relay, own.run, formatLsn(done.commitLsn), done.seq];
  await client.query(
    `delete from ferry.relay_dead_letter where relay = ${OWN_RELAY} and (commit_lsn, seq) > ($3::pg_lsn, $4::int)`,
    place,
  );
  // what is parked is corrected by the parked topic: a release may have been committed in part
  await client.query(
    `update ferry.relay_dead_letter set resolution = null, resolved_lsn = null, resolved_seq = null
      where relay = ${OWN_RELAY} and not parked and resolution = 'published'
        and (resolved_lsn, resolved_seq) > ($3::pg_lsn, $4::int)`,
    place,
  );
  await client.query(
    `delete from ferry.relay_dead_letter where relay = ${OWN_RELAY} and not parked and resolution = 'published'`,
    [own.relay, own.run],
  );
}

/**
 * Makes the notes say of parked keys what Kafka says. Costs one look as long as both agree. What is noted and not on the list was released;
 * but not before a new epoch (`isReset`), whose list may have been lost: there it is a lone dead letter until `correctByTopics` has looked.
 */
export async function correctByParked(
  client: Queryable,
  own: RelayRun,
  parked: ParkedKeys,
  isReset: boolean,
): Promise<void> {
  const { rows } = await client.query<{ event_id: string; resolution: string | null }>(
    'select event_id::text, resolution from ferry.relay_dead_letter where relay = $1 and parked',
    [own.relay],
  );
  if (rows.length === 0 && parked.empty) return;
  const noted = new Map(rows.map((row) => [row.event_id, row.resolution]));
  const missing: Row[] = [];
  for (const key of parked.keys()) {
    for (const row of rowsOf(key)) {
      if (noted.get(row.eventId) !== null) missing.push(row);
      noted.delete(row.eventId);
    }
  }
  if (missing.length > 0) await noteDeadLetters(client, own, missing);
  if (noted.size > 0) await (isReset ? unpark : settle)(client, own, [...noted.keys()]);
}

async function unpark(client: Queryable, { relay, run }: RelayRun, ids: readonly string[]): Promise<void> {
  await client.query(
    `update ferry.relay_dead_letter set parked = false, resolution = nullif(resolution, 'published')
      where relay = ${OWN_RELAY} and event_id = any($3::uuid[])`,
    [relay, run, ids],
  );
}

function rowsOf({ topic, key, events }: ParkedKey): Row[] {
  return events.map((event) => ({ ...event, topic, key }));
}

/**
 * At the start of a new epoch, whose checkpoint says nothing of the old one's transactions: takes back the notes of events that Kafka does
 * not hold, not even as dead letters, for those are published again; what was resolved of dead letters that are in no other topic; and the
 * notes of those that are.
 */
export async function correctByTopics(
  client: Queryable,
  { relay, run }: RelayRun,
  published: { readonly ids: ReadonlySet<string>; readonly onlyDead: ReadonlySet<string> },
): Promise<void> {
  const { rows } = await client.query<{ event_id: string }>(
    'select event_id::text from ferry.relay_dead_letter where relay = $1',
    [relay],
  );
  const known = rows.map((row) => row.event_id);
  const unpublished = known.filter((id) => !published.ids.has(id));
  await client.query(`delete from ferry.relay_dead_letter where relay = ${OWN_RELAY} and event_id = any($3::uuid[])`, [
    relay,
    run,
    unpublished,
  ]);
  await client.query(
    `update ferry.relay_dead_letter set resolution = null, resolved_lsn = null, resolved_seq = null
      where relay = ${OWN_RELAY} and not parked and resolution = 'published' and event_id = any($3::uuid[])`,
    [relay, run, known.filter((id) => published.onlyDead.has(id))],
  );
  await client.query(
    `delete from ferry.relay_dead_letter
      where relay = ${OWN_RELAY} and not parked and resolution is distinct from 'discarded' and event_id = any($3::uuid[])`,
    [relay, run, known.filter((id) => published.ids.has(id) && !published.onlyDead.has(id))],
  );
}
