/**
 * An event as it stands in the outbox: the one shape that the API, the TypeScript kit, the WAL decoder and the encoder share.
 */
import type { EventId } from '../kernel/event-id.ts';
import type { Lsn } from '../kernel/lsn.ts';

export type Payload =
  /** Plain JSON, as text so that no digit is lost: jsonb as Postgres prints it. */
  | { readonly kind: 'json'; readonly text: string }
  /** Confluent wire format: byte 0, four bytes schema id, Avro binary. */
  | { readonly kind: 'avro'; readonly bytes: Buffer }
  /** A null record value: log compaction removes the key. */
  | { readonly kind: 'tombstone' };

export interface OutboxEvent {
  readonly id: EventId;
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Grows by one with each event of the aggregate; null when a plain-SQL writer does not count. */
  readonly aggregateVersion: bigint | null;
  /** Full name of the event's Avro record, such as `commerce.OrderPlaced`. */
  readonly type: string;
  readonly payload: Payload;
  /** Pins the writer schema by its registry id; null takes the subject's latest. */
  readonly schemaId: number | null;
  readonly headers: Readonly<Record<string, string>>;
  /** W3C trace context of the write. */
  readonly traceparent: string | null;
  /** RFC 3339 in UTC, microseconds: when it happened, by the writer. */
  readonly occurredAt: string;
  /** RFC 3339 in UTC, microseconds: when the row was written, by the database's clock. */
  readonly recordedAt: string;
  /** The row's number from the outbox's sequence: unique, in order of insertion, not of commit. */
  readonly seq: bigint;
}

/**
 * Where an event stands in the WAL. Rows of one transaction share LSNs, so the order is (commit, seq): `seq` counts the Insert and
 * Message messages received since BEGIN, before any filter, so that it means the same after a change of configuration.
 */
export interface Position {
  /** BEGIN's final_lsn: the LSN of the transaction's commit record. */
  readonly commitLsn: Lsn;
  readonly seq: number;
}
