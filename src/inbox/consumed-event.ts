/** A record as a handler gets it: decoded, with what its headers say. */
import { HEADER, recordedAtOf } from '../events/record.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { type ErrorCode, FerryError } from '../kernel/errors.ts';
import { type EventId, isEventId } from '../kernel/event-id.ts';
import type { ResolvingDecoder } from '../registry/decoder.ts';

export interface ConsumedEvent<T = unknown> {
  readonly id: EventId;
  /** Full name of the record: `commerce.OrderPlaced`. */
  readonly type: string;
  /** Null when another producer left the header out, as with all that is null here. */
  readonly aggregateType: string | null;
  /** The record's key. */
  readonly aggregateId: string | null;
  readonly aggregateVersion: bigint | null;
  /** RFC 3339: when it happened, by the writer. */
  readonly occurredAt: string | null;
  /** RFC 3339: when the outbox row was written; replays keep it. */
  readonly recordedAt: string;
  readonly traceparent: string | null;
  readonly headers: Readonly<Record<string, string>>;
  /** Plain JSON; null for a tombstone. */
  readonly value: T;
  readonly source: RecordSource;
}

export interface RecordSource {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
}

/** A record that no try can make an event of: its bytes or headers are at fault, not a part that is away. */
export interface UnreadableRecord {
  readonly code: ErrorCode;
  readonly message: string;
}

/** What the group wants of a type: nothing (undefined), or its values in a form of the reader's own. */
export type ReaderOf = (type: string) => { readonly readerSchema?: string } | undefined;

/**
 * Makes an event of a record; null for a type that the group has no handler for, which is not decoded. Rejects only with what may pass
 * (REGISTRY_UNAVAILABLE).
 */
export async function readEvent(
  record: LogRecord,
  decoder: ResolvingDecoder,
  readerOf: ReaderOf,
): Promise<ConsumedEvent | UnreadableRecord | null> {
  const { headers, value, topic, partition, offset } = record;
  try {
    const type = headers[HEADER.type] ?? (value === null ? '' : (await decoder.decode(value)).type);
    const reader = readerOf(type);
    if (reader === undefined) return null;
    const identity = identityOf(record);
    if (identity === null) return { code: 'EVENT_ID_INVALID', message: `${HEADER.id} is no UUIDv7` };
    return {
      ...identity,
      type,
      aggregateType: headers[HEADER.aggregateType] ?? null,
      aggregateId: record.key?.toString() ?? null,
      aggregateVersion: versionOf(headers[HEADER.aggregateVersion]),
      occurredAt: headers[HEADER.time] ?? null,
      traceparent: headers[HEADER.traceparent] ?? null,
      headers,
      value: value === null ? null : (await decoder.decode(value, reader)).value,
      source: { topic, partition, offset },
    };
  } catch (error) {
    if (error instanceof FerryError && !error.retryable) return { code: error.code, message: error.message };
    throw error;
  }
}

/** By what the inbox knows an event; null for a record that has no event id. Needs no decoding. */
export function identityOf({ headers }: LogRecord): Pick<ConsumedEvent, 'id' | 'recordedAt'> | null {
  const id = headers[HEADER.id] ?? '';
  return isEventId(id) ? { id, recordedAt: recordedAtOf(headers, id) } : null;
}

export function isUnreadable(read: ConsumedEvent | UnreadableRecord): read is UnreadableRecord {
  return 'code' in read;
}

function versionOf(header: string | undefined): bigint | null {
  return header !== undefined && /^[1-9]\d{0,18}$/.test(header) ? BigInt(header) : null;
}
