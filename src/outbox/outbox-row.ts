/** A row of the outbox as it is selected, and the event that it holds. */
import type { OutboxEvent, Payload } from '../events/outbox-event.ts';
import type { EventId } from '../kernel/event-id.ts';

/** What OUTBOX_COLUMNS select. */
export interface OutboxRow {
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
}

/** Of `ferry.outbox event`. The payload as text: parsed, its numbers would lose digits. */
export const OUTBOX_COLUMNS = `event.id, event.aggregatetype, event.aggregateid, event.aggregateversion, event.type,
  event.payload::text as payload, event.payload_bytes, event.schema_id, event.headers, event.traceparent, event.occurred_at,
  event.recorded_at, event.seq`;

export function eventOfRow(row: OutboxRow): OutboxEvent {
  return {
    id: row.id,
    aggregateType: row.aggregatetype,
    aggregateId: row.aggregateid,
    aggregateVersion: row.aggregateversion,
    type: row.type,
    payload: payloadOfRow(row),
    schemaId: row.schema_id,
    headers: row.headers,
    traceparent: row.traceparent,
    occurredAt: row.occurred_at,
    recordedAt: row.recorded_at,
    seq: row.seq,
  };
}

function payloadOfRow({ payload, payload_bytes }: OutboxRow): Payload {
  if (payload !== null) return { kind: 'json', text: payload };
  return payload_bytes === null ? { kind: 'tombstone' } : { kind: 'avro', bytes: payload_bytes };
}
