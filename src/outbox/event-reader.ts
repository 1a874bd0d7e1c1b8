/**
 * Reads events of the outbox by their ids, as many as a bound of bytes allows. Whoever works through many rows first finds out which, by what
 * is small in them, and then reads them here: one payload may have 16 MiB, so a number of rows bounds nothing.
 */
import type { OutboxEvent } from '../events/outbox-event.ts';
import type { Queryable } from '../postgres/connection.ts';
import { eventOfRow, OUTBOX_COLUMNS, type OutboxRow } from './outbox-row.ts';

export interface ReadLimits {
  /** Of payloads as text, with headers; the last event may be larger than what is left of it. */
  readonly maxBytes: number;
  /** Where an operator has edited an event, as it is now (ferry.event_patch). */
  readonly edited?: boolean;
}

export interface EventsRead {
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** So many of the ids were looked at, from the first on, at least one: of those without an event there is no row. */
  readonly looked: number;
}

const EDITED = `(
  select event.id, aggregatetype, aggregateid, aggregateversion, type, traceparent, occurred_at, recorded_at, seq,
         coalesce(patch.payload, event.payload) as payload,
         case when patch.event_id is null then payload_bytes end as payload_bytes,
         case when patch.event_id is null then event.schema_id else patch.schema_id end as schema_id,
         coalesce(patch.headers, event.headers) as headers
    from ferry.outbox event left join ferry.event_patch patch on patch.event_id = event.id)`;

/**
 * Row by row, so that no payload behind the bound is read: its size as text is known only once it is uncompressed, and that is done once
 * (`offset 0`: the text is not made anew for each use).
 */
const within = (source: string) => `
  with recursive within as (
    select 0 as looked, 0::bigint as bytes, event.*
      from (values (0)) as start left join (select ${OUTBOX_COLUMNS} from ${source} event limit 0) event on true
    union all
    select looked + 1, bytes + coalesce(octet_length(event.payload), octet_length(event.payload_bytes), 0)
             + coalesce(octet_length(event.headers::text), 0), event.*
      from within left join lateral (
        select ${OUTBOX_COLUMNS} from ${source} event where event.id = ($1::uuid[])[looked + 1] offset 0
      ) event on true
     where looked < cardinality($1::uuid[]) and bytes < $2
  )
  select * from within where looked > 0 order by looked`;

const OUTBOX = within('ferry.outbox');
const OUTBOX_EDITED = within(EDITED);

type Looked = { readonly looked: number } & (OutboxRow | { readonly id: null });

export async function readEvents(
  db: Queryable,
  ids: readonly string[],
  { maxBytes, edited = false }: ReadLimits,
): Promise<EventsRead> {
  if (ids.length === 0) return { events: [], looked: 0 };
  const { rows } = await db.query<Looked>(edited ? OUTBOX_EDITED : OUTBOX, [ids, maxBytes]);
  const events = rows.flatMap((row) => (row.id === null ? [] : [eventOfRow(row)]));
  return { events, looked: rows.at(-1)?.looked ?? 0 };
}
