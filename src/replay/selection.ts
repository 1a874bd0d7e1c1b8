/** Which rows of the outbox a replay is about: the criteria that an operator gives, and their SQL. */

/** Criteria; a row must meet all that are not null. */
export interface Selection {
  /** At most MAX_EVENT_IDS. */
  readonly eventIds: readonly string[] | null;
  readonly aggregateType: string | null;
  readonly aggregateId: string | null;
  /** Full name of the event's record. */
  readonly type: string | null;
  /** RFC 3339, inclusive: when the row was written, by the database's clock. */
  readonly recordedFrom: string | null;
  /** RFC 3339, exclusive. */
  readonly recordedTo: string | null;
  /** Inclusive. Of the row's insert: at most that of the commit, which stands in the record's `ferry_lsn`. */
  readonly lsnFrom: string | null;
  /** Exclusive. */
  readonly lsnTo: string | null;
  /** What the writer pinned or its bytes name; rows that say neither are not selected by it. */
  readonly schemaId: number | null;
}

export const MAX_EVENT_IDS = 10_000;

/** The rows that a selection is looked for in: fixed once, so that what is written later is no part of it. */
export interface SelectionScope {
  /** pg_snapshot. */
  readonly snapshot: string;
  /** No row of the selection has a smaller seq. */
  readonly firstSeq: bigint;
  readonly lastSeq: bigint;
}

export function isEmptySelection(selection: Selection): boolean {
  return Object.values(selection).every((criterion) => criterion === null);
}

/**
 * Condition on a row of ferry.outbox_fact, named `fact`, with the parameters $1 to $10. Postgres folds away what is null when it plans. The
 * ids' bounds let it leave out partitions: an id is at most a day older and an hour younger than its row (ferry.outbox_stamp).
 */
export const SELECTED = `
  pg_visible_in_snapshot(fact.tx, $1::pg_snapshot)
  and ($2::uuid[] is null or fact.id = any($2))
  and ($3::text is null or fact.aggregatetype = $3)
  and ($4::text is null or fact.aggregateid = $4)
  and ($5::text is null or fact.type = $5)
  and ($6::timestamptz is null or (fact.recorded_at >= $6 and fact.id >= ferry.uuid_floor($6 - interval '1 day 1 second')))
  and ($7::timestamptz is null or (fact.recorded_at < $7 and fact.id < ferry.uuid_floor($7 + interval '1 hour 1 second')))
  and ($8::pg_lsn is null or fact.inserted_lsn >= $8)
  and ($9::pg_lsn is null or fact.inserted_lsn < $9)
  and ($10::int is null or fact.schema_id = $10)`;

/** The parameters of SELECTED. */
export function selectedValues(selection: Selection, { snapshot }: Pick<SelectionScope, 'snapshot'>): unknown[] {
  return [
    snapshot,
    selection.eventIds,
    ...[selection.aggregateType, selection.aggregateId, selection.type],
    ...[selection.recordedFrom, selection.recordedTo, selection.lsnFrom, selection.lsnTo],
    selection.schemaId,
  ];
}

/** So many numbers of the outbox's sequence are looked at in one statement at most, however few rows are selected. */
export const WINDOW_SEQS = 50_000n;

/** Up to which seq the next statement may look. Few ids are found by their index, wherever they are. */
export function windowEnd({ eventIds }: Selection, { lastSeq }: SelectionScope, cursorSeq: bigint): bigint {
  const end = cursorSeq + WINDOW_SEQS;
  return eventIds !== null || end > lastSeq ? lastSeq : end;
}
