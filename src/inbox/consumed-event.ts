/** A record as a handler gets it: decoded, with what its headers say. */

import type { EventDecoder } from '../events/decoder.ts';
import { HEADER } from '../events/record.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { type ErrorCode, FerryError } from '../kernel/errors.ts';
import { type EventId, eventIdTimeMs, isEventId } from '../kernel/event-id.ts';

export interface ConsumedEvent {
  readonly id: EventId;
  /** Full name of the record: `commerce.OrderPlaced`. */
  readonly type: string;
  readonly aggregateType: string | null;
  /** RFC 3339: when the outbox row was written; replays keep it. */
  readonly recordedAt: string;
  readonly traceparent: string | null;
  /** Plain JSON; null for a tombstone. */
  readonly value: unknown;
  readonly source: { readonly topic: string; readonly partition: number; readonly offset: bigint };
}

/** A record that no attempt can make an event of: its bytes or headers are at fault, not a part that is away. */
export interface UnreadableRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly source: ConsumedEvent['source'];
}

/** Decodes a record. Rejects only with what may pass (REGISTRY_UNAVAILABLE). */
export async function readEvent(record: LogRecord, decoder: EventDecoder): Promise<ConsumedEvent | UnreadableRecord> {
  const { headers, value, topic, partition, offset } = record;
  const source = { topic, partition, offset };
  const id = headers[HEADER.id] ?? '';
  if (!isEventId(id)) return { code: 'EVENT_ID_INVALID', message: `${HEADER.id} is no UUIDv7`, source };
  try {
    const decoded = value === null ? null : await decoder.decode(value);
    return {
      id,
      type: decoded?.type ?? headers[HEADER.type] ?? '',
      aggregateType: headers[HEADER.aggregateType] ?? null,
      recordedAt: recordedAt(headers[HEADER.recordedAt], id),
      traceparent: headers[HEADER.traceparent] ?? null,
      value: decoded?.value ?? null,
      source,
    };
  } catch (error) {
    if (error instanceof FerryError && !error.retryable) return { code: error.code, message: error.message, source };
    throw error;
  }
}

export function isUnreadable(read: ConsumedEvent | UnreadableRecord): read is UnreadableRecord {
  return 'code' in read;
}

/** Producers other than Ferry may leave the header out or put anything there; the id holds the time to the millisecond. */
function recordedAt(header: string | undefined, id: EventId): string {
  return header !== undefined && Number.isFinite(Date.parse(header))
    ? header
    : new Date(eventIdTimeMs(id)).toISOString();
}
