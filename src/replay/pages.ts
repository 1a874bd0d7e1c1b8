/** Reads the selected rows, a page at a time in the order of insertion, each page bounded in rows and bytes. */
import type { OutboxEvent } from '../events/outbox-event.ts';
import { eventOfRow, OUTBOX_COLUMNS, type OutboxRow } from '../outbox/outbox-row.ts';
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

type PageRow = OutboxRow & { readonly dead_lettered: boolean; readonly found: bigint };

/** The row itself is read by its key, once it is known to be selected: the view has no payload. */
const PAGE = `
  select * from (
    select ${OUTBOX_COLUMNS},
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
  const selected = rows.map((row) => ({ event: eventOfRow(row), deadLettered: row.dead_lettered }));
  return { rows: selected, cursorSeq: isWhole ? end : last.seq };
}
