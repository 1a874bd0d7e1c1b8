/** What an operator does about keys that a consumer group has parked: see them, and release them once the cause is mended. */
import { type Actor, recordOperation } from '../domain/audit.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';

export interface ParkedKeyFacts {
  readonly group: string;
  readonly topic: string;
  /** As text; bytes that are no UTF-8 are hexadecimal behind `0x`. */
  readonly key: string;
  /** The event that could not be applied, and why. */
  readonly eventId: EventId;
  readonly errorCode: string;
  /** How many wait, that one included. */
  readonly events: bigint;
  readonly parkedAt: string;
  readonly releaseRequestedAt: string | null;
}

export interface ReleaseRequest {
  readonly group: string;
  readonly topic: string;
  readonly key: string;
  /** The event that could not be applied is left out: its effect will never happen. */
  readonly discard: boolean;
  readonly reason: string;
}

/** All parked keys, or those of one group, the longest parked first; at most 1,000. */
export async function listParkedKeys(db: Queryable, group: string | null): Promise<ParkedKeyFacts[]> {
  const { rows } = await db.query<Omit<ParkedKeyFacts, 'key'> & { key: Buffer }>(
    `select consumer_group as group, topic, key, event_id as "eventId", error_code as "errorCode", events,
            parked_at as "parkedAt", release_requested_at as "releaseRequestedAt"
     from ferry.parked_key where $1::text is null or consumer_group = $1 order by parked_at limit 1000`,
    [group],
  );
  return rows.map((row) => ({ ...row, key: textOfKey(row.key) }));
}

/**
 * Asks the group's consumer to apply what waits of a key, in order; it looks every two seconds. Asking again changes nothing. Rejects with
 * NOT_FOUND if the key is not parked.
 */
export function releaseKey(pool: Pool, actor: Actor, request: ReleaseRequest): Promise<{ eventId: EventId }> {
  const { group, topic, discard, reason } = request;
  const key = bytesOfKey(request.key);
  return transaction(pool, async (tx) => {
    const { rows } = await tx.query<{ event_id: EventId }>(
      `update ferry.parked_key set release_requested_at = coalesce(release_requested_at, clock_timestamp())
       where consumer_group = $1 and topic = $2 and key = $3 returning event_id`,
      [group, topic, key],
    );
    const eventId = rows[0]?.event_id;
    if (eventId === undefined) {
      throw new FerryError(
        'NOT_FOUND',
        `group ${group} has not parked this key of topic ${topic}: see ./ferry dlq parked`,
      );
    }
    if (discard) {
      await tx.query(
        `update ferry.inbox set outcome = 'discarded', processed_at = clock_timestamp()
         where consumer_group = $1 and event_id = $2 and outcome = 'parked'`,
        [group, eventId],
      );
    }
    const action = discard ? 'parked-key.release-and-discard' : 'parked-key.release';
    await recordOperation(tx, actor, { action, subject: `${group}/${topic}/${request.key}`, eventId, reason });
    return { eventId };
  });
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
