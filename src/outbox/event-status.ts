/** Where an event is on its way, without the row ever being updated: the relay keeps a snapshot of what it has published. */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

/** `unknown`: the outbox holds no committed row of this id; there may have been one if its day was taken out (`isDayRetired`). */
export type EventStatus = 'pending' | 'published' | 'dead-lettered' | 'unknown';

/** The event's status with the named relay; `ferry.outbox_status` says how it knows. */
export async function eventStatus(db: Queryable, id: EventId, relay: string): Promise<EventStatus> {
  const { rows } = await db.query<{ status: EventStatus }>('select ferry.outbox_status($1, $2) as status', [id, relay]);
  return rows[0]?.status ?? 'unknown';
}

/** Whether retention has taken the id's day out of the outbox, or is about to: then a row that is not found may have been there. */
export async function isDayRetired(db: Queryable, id: EventId): Promise<boolean> {
  const { rows } = await db.query<{ retired: boolean }>(
    'select exists (select from ferry.outbox_retired where $1 >= first_id and $1 < end_id) as retired',
    [id],
  );
  return rows[0]?.retired === true;
}
