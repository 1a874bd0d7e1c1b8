/** Where an event is on its way, without the row ever being updated: the relay keeps a snapshot of what it has published. */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

/** `unknown`: no committed row has this id (or its partition has been dropped). */
export type EventStatus = 'pending' | 'published' | 'dead-lettered' | 'unknown';

/** The event's status with the named relay; `ferry.outbox_status` says how it knows. */
export async function eventStatus(db: Queryable, id: EventId, relay: string): Promise<EventStatus> {
  const { rows } = await db.query<{ status: EventStatus }>('select ferry.outbox_status($1, $2) as status', [id, relay]);
  return rows[0]?.status ?? 'unknown';
}
