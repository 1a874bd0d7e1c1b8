/** Reads the selected rows, a page at a time in the order of insertion, each page bounded in rows and bytes. */
import type { OutboxEvent } from '../events/outbox-event.ts';
import { readEvents } from '../outbox/event-reader.ts';
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

interface FoundRow {
  readonly id: string;
  readonly seq: bigint;
  readonly dead_lettered: boolean;
}

const FOUND = `
  select fact.id, fact.seq,
         exists (select from ferry.relay_dead_letter letter where letter.relay = $11 and letter.event_id = fact.id) as dead_lettered
  from ferry.outbox_fact fact
  where fact.seq > $12 and fact.seq <= $13 and ${SELECTED}
  order by fact.seq limit $14`;

/** The next rows behind `cursorSeq`; none is no end, as long as the page's cursor is before the scope's last seq. */
export async function readPage(
  tx: Queryable,
  job: SelectionScope & { readonly selection: Selection; readonly cursorSeq: bigint; readonly relay: string },
  { maxRows, maxBytes }: PageLimits,
): Promise<Page> {
  const end = windowEnd(job.selection, job, job.cursorSeq);
  const values = [...selectedValues(job.selection, job), job.relay, job.cursorSeq, end, maxRows];
  const { rows: found } = await tx.query<FoundRow>(FOUND, values);
  const ids = found.map(({ id }) => id);
  const { events, looked } = await readEvents(tx, ids, { maxBytes });
  const deadLettered = new Set(found.filter((row) => row.dead_lettered).map(({ id }) => id));
  const rows = events.map((event) => ({ event, deadLettered: deadLettered.has(event.id) }));
  const isWhole = looked === found.length && found.length < maxRows;
  return { rows, cursorSeq: isWhole ? end : (found[looked - 1]?.seq ?? end) };
}
