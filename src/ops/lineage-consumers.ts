/** Which consumer groups have dealt with an event, as their inbox tells. */
import { type EventId, eventIdTimeMs } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

export interface ConsumerFacts {
  readonly group: string;
  readonly database: string;
  readonly outcome: 'applied' | 'parked' | 'dead-lettered' | 'discarded';
  readonly processedAt: string;
}

/**
 * The inbox's key begins with the group, and an event's id says the day only roughly: so the groups are found by jumping from one to the next
 * in the index of each day that it can be, and then the event by its key. An index by event would cost every consumer.
 */
export async function readConsumers(db: Queryable, id: EventId, database: string): Promise<ConsumerFacts[]> {
  const madeMs = eventIdTimeMs(id);
  const { rows } = await db.query<Omit<ConsumerFacts, 'database'>>(
    `with recursive days as (select $2::timestamptz as first, $3::timestamptz as last),
     known as (
       (select consumer_group from ferry.inbox, days where recorded_at >= first and recorded_at < last order by consumer_group limit 1)
       union all
       select (select consumer_group from ferry.inbox, days
               where recorded_at >= first and recorded_at < last and inbox.consumer_group > known.consumer_group
               order by consumer_group limit 1)
       from known where known.consumer_group is not null
     )
     select inbox.consumer_group as group, outcome, processed_at as "processedAt"
     from known join ferry.inbox on inbox.consumer_group = known.consumer_group and inbox.event_id = $1, days
     where recorded_at >= first and recorded_at < last order by processed_at`,
    [id, startOfDay(madeMs - HOUR_MS), startOfDay(madeMs + 2 * DAY_MS)],
  );
  return rows.map((row) => ({ ...row, database }));
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Whole days, so that the bounds are those of partitions: then every row of them is in, and the jumps never look at one in vain. */
function startOfDay(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 10)}T00:00:00Z`;
}
