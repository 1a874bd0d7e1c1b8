/** Reads the selected rows, a page at a time in the order of insertion, each page bounded in rows and bytes. */
import type { OutboxEvent, Payload } from '../events/outbox-event.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import { SELECTED, type Selection, type SelectionScope, selectedValues, windowEnd } from './selection.ts';

export interface PageLimits {
  readonly maxRows: number;
  /** Of payloads as text; one row may be larger. */
  readonly maxBytes: number;
}

export interface SelectedRow {
  readonly event: OutboxEvent;
  /** The relay could not publish it, or keeps it back behind such an event of its key. */
  readonly deadLettered: boolean;
}

export interface Page {
  readonly rows: readonly SelectedRow[];
  /** All rows up to this seq have been looked at. */
  readonly cursorSeq: bigint;
}

interface PageRow {
  readonly id: EventId;
  readonly aggregatetype: string;
  readonly aggregateid: string;
  readonly aggregateversion: bigint | null;
  readonly type: string;
  readonly payload: string | null;
  readonly payload_bytes: Buffer | null;
  readonly schema_id: number | null;
  readonly headers: Record<string, string>;
  readonly traceparent: string | null;
  readonly occurred_at: string;
  readonly recorded_at: string;
  readonly seq: bigint;
  readonly dead_lettered: boolean;
  readonly found: bigint;
}

/** The row itself is read by its key, once it is known to be selected: the view has no payload. */
const PAGE = `
  select * from (
    select event.id, event.aggregatetype, event.aggregateid, event.aggregateversion, event.type, event.payload::text as payload,
           event.payload_bytes, event.schema_id, event.headers, event.traceparent, event.occurred_at, event.recorded_at, event.seq,
           exists (select from ferry.relay_dead_letter letter where letter.relay = $11 and letter.event_id = event.id) as dead_lettered,
           count(*) over () as found,
           sum(coalesce(octet_length(event.payload::text), octet_length(event.payload_bytes), 0)) over (order by event.seq)
             - coalesce(octet_length(event.payload::text), octet_length(event.payload_bytes), 0) as bytes_before
    from (
      select fact.id from ferry.outbox_fact fact
      where fact.seq > $12 and fact.seq <= $13 and ${SELECTED}
      order by fact.seq limit $14
    ) selected
    join ferry.outbox event using (id)
  ) page
  where bytes_before <= $15
  order by seq`;

/** The next rows behind `cursorSeq`; none is no end, as long as the page's cursor is before the scope's last seq. */
export async function readPage(
  tx: Queryable,
  job: SelectionScope & { readonly selection: Selection; readonly cursorSeq: bigint; readonly relay: string },
  { maxRows, maxBytes }: PageLimits,
): Promise<Page> {
  const end = windowEnd(job.selection, job, job.cursorSeq);
  const values = [...selectedValues(job.selection, job), job.relay, job.cursorSeq, end, maxRows, maxBytes];
  const { rows } = await tx.query<PageRow>(PAGE, values);
  const last = rows.at(-1);
  const isWhole = last === undefined || (Number(last.found) < maxRows && Number(last.found) === rows.length);
  return { rows: rows.map(selectedRow), cursorSeq: isWhole ? end : last.seq };
}

function selectedRow(row: PageRow): SelectedRow {
  const event: OutboxEvent = {
    id: row.id,
    aggregateType: row.aggregatetype,
    aggregateId: row.aggregateid,
    aggregateVersion: row.aggregateversion,
    type: row.type,
    payload: payloadOf(row),
    schemaId: row.schema_id,
    headers: row.headers,
    traceparent: row.traceparent,
    occurredAt: row.occurred_at,
    recordedAt: row.recorded_at,
    seq: row.seq,
  };
  return { event, deadLettered: row.dead_lettered };
}

function payloadOf({ payload, payload_bytes }: PageRow): Payload {
  if (payload !== null) return { kind: 'json', text: payload };
  return payload_bytes === null ? { kind: 'tombstone' } : { kind: 'avro', bytes: payload_bytes };
}
