/**
 * Dead letters of a relay, in the database whose outbox it publishes: asking the relay to publish one after all, which takes its place in the
 * commit order, and looking whether it has.
 */
import { encodeRelease } from '../events/release-message.ts';
import { emitControls } from '../outbox/control-writer.ts';
import { currentPosition } from '../outbox/position.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { LetterToTell, LetterToWatch } from './told-letters.ts';
import type { RelayFacts } from './verdict.ts';

/** Whether the event is of this database's outbox, as far as can be seen. */
export async function ownerRelay(db: Queryable, relay: string, eventId: string): Promise<boolean> {
  const { rows } = await db.query<{ known: boolean }>(
    `select exists (select from ferry.relay_dead_letter where relay = $1 and event_id = $2)
         or exists (select from ferry.outbox where id = $2) as known`,
    [relay, eventId],
  );
  return rows[0]?.known === true;
}

export interface RelayPlace {
  /** Of the dead-letter store. */
  readonly store: Queryable;
  readonly owner: Pool;
  readonly relay: string;
}

/**
 * Asks the relay to publish the letter's event, or, if it is parked, what is parked of its key; resolves with an LSN behind the message, null
 * where there is nothing to ask. Asked twice under one retry it is asked once.
 */
export async function tellRelay({ store, owner, relay }: RelayPlace, letter: LetterToTell): Promise<string | null> {
  if (letter.state === 'discarded') return null; // whoever releases its key leaves it out
  const skip = await discardedOfKey(store, letter.sourceTopic, letter.key);
  await transaction(owner, async (tx) => {
    const { rowCount } = await tx.query(
      'insert into ferry.relay_ask (id, event_id) values ($1, $2) on conflict (id) do nothing',
      [letter.retryId, letter.eventId],
    );
    if (rowCount !== 1) return;
    if (letter.patched !== null) await patch(tx, letter, letter.patched);
    const { sourceTopic: topic, by, eventId: event } = letter;
    const key = letter.key?.toString() ?? '';
    await emitControls(tx, relay, 'release', [
      encodeRelease({ id: letter.retryId ?? '', topic, key, by, skip, event }),
    ]);
  });
  return currentPosition(owner);
}

async function patch(tx: Queryable, { eventId, by, reason }: LetterToTell, payload: string): Promise<void> {
  await tx.query(
    `insert into ferry.event_patch (event_id, payload, by, reason) values ($1, $2, $3, $4)
     on conflict (event_id) do update
     set payload = excluded.payload, schema_id = null, by = excluded.by, reason = excluded.reason, at = clock_timestamp()`,
    [eventId, payload, by, reason],
  );
}

/** Events of a key that the relay has set aside and that are never to be published. */
export async function discardedOfKey(store: Queryable, topic: string, key: Buffer | null): Promise<string[]> {
  const { rows } = await store.query<{ event_id: string }>(
    `select event_id from ferry.dead_letter
     where sha256(key) = sha256($2) and key = $2 and source_topic = $1 -- an index has digests only: keys may be longer than its entries
       and consumer_group is null and state = 'discarded' and event_id is not null`,
    [topic, key],
  );
  return rows.map((row) => row.event_id);
}

/** Those of the events that the relay holds parked. */
export async function parkedAmong(db: Queryable, relay: string, eventIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ event_id: string }>(
    'select event_id from ferry.relay_dead_letter where relay = $1 and parked and event_id = any ($2::uuid[])',
    [relay, eventIds],
  );
  return rows.map((row) => row.event_id);
}

/** Forgets what the relay was asked that long ago, but not under these retries, whose letters may ask it again. */
export async function forgetAsks(db: Queryable, days: number, untold: readonly string[]): Promise<void> {
  await db.query(
    `delete from ferry.relay_ask
     where asked_at < clock_timestamp() - make_interval(days => $1) and not (id = any ($2::uuid[]))`,
    [days, untold],
  );
}

interface FactsRow {
  readonly id: string;
  readonly published: boolean;
  readonly discarded: boolean;
  readonly deadLetterCode: string | null;
  readonly passed: boolean;
}

/** What this database says of the letters, by letter; nothing of those whose event its outbox does not hold. */
export async function relayFacts(
  db: Queryable,
  relay: string,
  letters: readonly LetterToWatch[],
): Promise<Map<string, RelayFacts>> {
  const { rows } = await db.query<FactsRow>(
    `select letter.id, status = 'published' as published, coalesce(noted.resolution = 'discarded' and not noted.parked, false) as discarded,
            case when noted.resolution is distinct from 'discarded' then noted.error_code end as "deadLetterCode",
            coalesce(progress.published_lsn >= letter.told_lsn, false) as passed
     from unnest($2::uuid[], $3::uuid[], $4::pg_lsn[]) as letter (id, event_id, told_lsn)
     cross join lateral ferry.outbox_status(letter.event_id, $1) status
     left join ferry.relay_dead_letter noted on noted.relay = $1 and noted.event_id = letter.event_id
     left join ferry.relay_progress progress on progress.relay = $1
     where status <> 'unknown' or noted.event_id is not null`,
    [relay, letters.map(({ id }) => id), letters.map(({ eventId }) => eventId), letters.map(({ toldLsn }) => toldLsn)],
  );
  return new Map(rows.map(({ id, ...facts }) => [id, facts]));
}
