/** Outbox rows as columns of text, as pgoutput carries them. */

export type OutboxRow = Readonly<Record<string, string | null>>;

const ROW: OutboxRow = {
  id: '019b7c5e-8c00-7000-8000-000000000001',
  aggregatetype: 'order',
  aggregateid: 'o-1',
  aggregateversion: '3',
  type: 'commerce.OrderPlaced',
  payload: '{"n": 1}',
  payload_bytes: null,
  tombstone: 'f',
  schema_id: null,
  headers: '{}',
  traceparent: null,
  occurred_at: '2026-01-02 03:04:05.6+00',
  seq: '9007199254740993',
  recorded_at: '2026-01-02 03:04:05.678901+00',
  tx: '750',
  inserted_lsn: '0/16B374D8',
};

/** The n-th of a row of events that all differ in id and payload. */
export function outboxRow(changes: OutboxRow = {}, n = 1): OutboxRow {
  const id = `019b7c5e-8c00-7000-8000-${n.toString(16).padStart(12, '0')}`;
  return { ...ROW, id, payload: `{"n": ${n}}`, ...changes };
}

export const OUTBOX_COLUMNS: readonly string[] = Object.keys(ROW);

/** The row's values in the order of the columns. */
export function valuesOf(row: OutboxRow, columns: readonly string[] = OUTBOX_COLUMNS): Array<string | null> {
  return columns.map((column) => row[column] ?? null);
}
