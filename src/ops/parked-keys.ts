/** What an operator does about keys that a consumer group or a relay has parked: see them, and release them once the cause is mended. */
import { randomUUID } from 'node:crypto';
import { discardedOfKey } from '../deadletter/relay-owner.ts';
import type { OwnerDatabase } from '../deadletter/settlement.ts';
import { type Actor, recordOperation } from '../domain/audit.ts';
import { encodeRelease } from '../events/release-message.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { emitControls } from '../outbox/control-writer.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';

/** Who has parked a key: a consumer group, or a relay. */
export type ParkedBy =
  | { readonly group: string; readonly relay: null }
  | { readonly group: null; readonly relay: string };

export type ParkedKeyFacts = ParkedBy & {
  readonly topic: string;
  /** As text; bytes that are no UTF-8 are hexadecimal behind `0x`. */
  readonly key: string;
  /** The event that could not be applied or published, and why. */
  readonly eventId: EventId;
  readonly errorCode: string;
  /** How many wait, that one included. */
  readonly events: bigint;
  readonly parkedAt: string;
  /** Null of a relay's, which releases within moments. */
  readonly releaseRequestedAt: string | null;
};

export type ReleaseRequest = ParkedBy & {
  readonly topic: string;
  readonly key: string;
  /** The event that holds the others up is left out: it is never published, or its effect never happens. */
  readonly discard: boolean;
  readonly reason: string;
};

/** All parked keys, or those of one group or one relay, the longest parked first; at most 1,000. */
export async function listParkedKeys(db: Queryable, by: ParkedBy | null): Promise<ParkedKeyFacts[]> {
  const { rows } = await db.query<ParkedBy & Omit<ParkedKeyFacts, 'key' | keyof ParkedBy> & { key: Buffer }>(
    `select null as relay, consumer_group as group, topic, key, event_id as "eventId", error_code as "errorCode", events,
            parked_at as "parkedAt", release_requested_at as "releaseRequestedAt"
       from ferry.parked_key where $3 or consumer_group = $1
      union all
     select relay, null, topic, convert_to(key, 'UTF8'), (array_agg(event_id order by ordinal))[1],
            (array_agg(error_code order by ordinal))[1], count(*), min(recorded_at), null
       from ferry.relay_dead_letter where parked and ($3 or relay = $2) group by relay, topic, key
      order by "parkedAt" limit 1000`,
    [by?.group ?? null, by?.relay ?? null, by === null],
  );
  return rows.map((row) => ({ ...row, key: textOfKey(row.key) }));
}

/** As `listParkedKeys`, in each of the databases. */
export async function listAllParkedKeys(
  databases: readonly OwnerDatabase[],
  by: ParkedBy | null,
): Promise<ParkedKeyFacts[]> {
  const keys: ParkedKeyFacts[] = [];
  for (const { pool } of databases) keys.push(...(await listParkedKeys(pool, by)));
  return keys.sort((a, b) => (a.parkedAt < b.parkedAt ? -1 : 1));
}

/** As `releaseKey`, in that one of the databases where the key is parked; the dead-letter store is in the first. */
export async function releaseKeyOf(
  databases: readonly OwnerDatabase[],
  actor: Actor,
  request: ReleaseRequest,
): Promise<{ eventId: EventId }> {
  const [store] = databases;
  const isRelays = request.group === null && store !== undefined;
  const skip = isRelays ? await discardedOfKey(store.pool, request.topic, bytesOfKey(request.key)) : [];
  let missing = new FerryError('NOT_FOUND', 'no database is given');
  for (const { pool } of databases) {
    try {
      return await releaseKey(pool, actor, request, skip);
    } catch (error) {
      if (!(error instanceof FerryError) || error.code !== 'NOT_FOUND') throw error;
      missing = error;
    }
  }
  throw missing;
}

/**
 * Asks for what waits of a key to be applied or published, in order. A group's consumer looks every two seconds, and asking it again changes
 * nothing; a relay does it when it comes to the message in the WAL. Resolves with the event that the key waits behind. Rejects with NOT_FOUND
 * if the key is not parked. `skip`: events that a relay is to leave out, given up before.
 */
export function releaseKey(
  pool: Pool,
  actor: Actor,
  request: ReleaseRequest,
  skip: readonly string[] = [],
): Promise<{ eventId: EventId }> {
  const { topic, discard, reason } = request;
  return transaction(pool, async (tx) => {
    const eventId =
      request.group === null
        ? await askRelay(tx, actor, request.relay, request, skip)
        : await askConsumer(tx, request.group, request);
    const owner = request.group ?? `relay ${request.relay}`;
    if (eventId === null) {
      const who = request.group === null ? owner : `group ${owner}`;
      throw new FerryError('NOT_FOUND', `${who} has not parked this key of topic ${topic}: see ./ferry dlq parked`);
    }
    const action = discard ? 'parked-key.release-and-discard' : 'parked-key.release';
    await recordOperation(tx, actor, { action, subject: `${owner}/${topic}/${request.key}`, eventId, reason });
    return { eventId };
  });
}

/** The event that the key waits behind; null if it is not parked. */
async function askConsumer(tx: Queryable, group: string, request: ReleaseRequest): Promise<EventId | null> {
  const { rows } = await tx.query<{ event_id: EventId }>(
    `update ferry.parked_key set release_requested_at = coalesce(release_requested_at, clock_timestamp())
     where consumer_group = $1 and topic = $2 and key = $3 returning event_id`,
    [group, request.topic, bytesOfKey(request.key)],
  );
  const eventId = rows[0]?.event_id ?? null;
  if (eventId !== null && request.discard) {
    await tx.query(
      `update ferry.inbox set outcome = 'discarded', processed_at = clock_timestamp()
       where consumer_group = $1 and event_id = $2 and outcome = 'parked'`,
      [group, eventId],
    );
  }
  return eventId;
}

/** As `askConsumer`. The relay's own list decides what is published; the notes only tell that there is something. */
async function askRelay(
  tx: Queryable,
  { principal: by }: Actor,
  relay: string,
  { topic, key, discard }: ReleaseRequest,
  givenUp: readonly string[],
): Promise<EventId | null> {
  const { rows } = await tx.query<{ event_id: EventId }>(
    `select event_id from ferry.relay_dead_letter where relay = $1 and topic = $2 and key = $3 and parked order by ordinal limit 1`,
    [relay, topic, key],
  );
  const eventId = rows[0]?.event_id;
  if (eventId === undefined) return null;
  const skip = discard ? [...givenUp, eventId] : givenUp;
  const body = encodeRelease({ id: randomUUID(), topic, key, by, skip, event: null });
  await emitControls(tx, relay, 'release', [body]);
  return eventId;
}

/** A key as text; bytes that are no UTF-8 are hexadecimal behind `0x`. */
export function textOfKey(key: Buffer): string {
  const text = key.toString();
  return Buffer.from(text).equals(key) && !text.startsWith('0x') ? text : `0x${key.toString('hex')}`;
}

/** The bytes of a key that `textOfKey` wrote. */
export function bytesOfKey(text: string): Buffer {
  return /^0x([0-9a-f]{2})+$/.test(text) ? Buffer.from(text.slice(2), 'hex') : Buffer.from(text);
}
