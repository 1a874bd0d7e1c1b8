/**
 * The dead-letter envelope, the same for the relay and for consumers: the record's value is the original bytes, everything else
 * stands in headers.
 */
import { isEventId } from '../kernel/event-id.ts';
import type { OutboxEvent, Payload } from './outbox-event.ts';
import { HEADER } from './record.ts';

export interface DeadLetterCause {
  /** Ferry's code (docs/errors.md); from a handler also a SQLSTATE or another library's code. */
  readonly code: string;
  readonly message: string;
  /** Class of the error, for grouping. */
  readonly type: string;
  /** Where it was thrown; left out when Ferry refused the event itself. */
  readonly stack?: string;
  readonly retryCount: number;
  readonly maxRetries: number;
  /** RFC 3339, UTC. */
  readonly firstFailedAt: string;
  readonly failedAt: string;
  /** Whether the same bytes may succeed later without being edited. */
  readonly replayable: boolean;
}

/** Whose dead letter it is, and the event that it waits behind, if it did not fail itself. */
export interface DeadLetterOwner {
  /** Null: the relay's. */
  readonly group: string | null;
  readonly blockedBy: string | null;
}

/** Where the original came from: a record in Kafka, or a row in the WAL. */
export type DeadLetterSource =
  | { readonly topic: string; readonly partition: number; readonly offset: string }
  | { readonly topic: string; readonly lsn: string; readonly seq: number };

/** `originalRecord` refers to the original when its bytes cannot be carried (`outbox:<event id>`), else says `value`. */
export function deadLetterHeaders(
  cause: DeadLetterCause,
  source: DeadLetterSource,
  originalRecord: string,
  { group, blockedBy }: DeadLetterOwner = { group: null, blockedBy: null },
): Record<string, string> {
  return {
    original_record: originalRecord,
    error_type: cause.type,
    error_code: cause.code,
    error_message: cause.message.slice(0, 1000),
    retry_count: String(cause.retryCount),
    max_retries: String(cause.maxRetries),
    first_failed_at: cause.firstFailedAt,
    failed_at: cause.failedAt,
    source_topic: source.topic,
    ...('lsn' in source
      ? { source_lsn: source.lsn, source_seq: String(source.seq) }
      : { source_partition: String(source.partition), source_offset: source.offset }),
    replayable: String(cause.replayable),
    ...(cause.stack === undefined ? {} : { error_stack: cause.stack.slice(0, 4_000) }),
    ...(group === null ? {} : { consumer_group: group }),
    ...(blockedBy === null ? {} : { blocked_by: blockedBy }),
  };
}

const ENVELOPE = new Set([
  ...['original_record', 'error_type', 'error_code', 'error_message', 'error_stack', 'retry_count', 'max_retries'],
  ...['first_failed_at', 'failed_at', 'replayable', 'consumer_group', 'blocked_by'],
  ...['source_topic', 'source_partition', 'source_offset', 'source_lsn', 'source_seq'],
]);

/** The headers that the record had before it was dead-lettered. */
export function originalHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !ENVELOPE.has(name)));
}

/**
 * The outbox event of which a relay's dead letter was made, as far as the record tells: a pinned schema is not in it. Null where it holds
 * only a reference, or is no event.
 */
export function eventOfDeadLetter(value: Buffer | null, headers: Readonly<Record<string, string>>): OutboxEvent | null {
  const { [HEADER.id]: id, [HEADER.type]: type, [HEADER.subject]: aggregateId, [HEADER.time]: occurredAt } = headers;
  const { [HEADER.aggregateType]: aggregateType, [HEADER.recordedAt]: recordedAt } = headers;
  if (headers.original_record !== 'value' || id === undefined || !isEventId(id)) return null;
  if (type === undefined || aggregateId === undefined || aggregateType === undefined) return null;
  const version = headers[HEADER.aggregateVersion];
  const ferrys = new Set<string>(Object.values(HEADER));
  const own = Object.entries(originalHeaders(headers)).filter(([name]) => !ferrys.has(name));
  return {
    ...{ id, aggregateType, aggregateId, type, schemaId: null, seq: 0n },
    aggregateVersion: version === undefined ? null : BigInt(version),
    payload: payloadOf(value),
    headers: Object.fromEntries(own),
    traceparent: headers[HEADER.traceparent] ?? null,
    occurredAt: occurredAt ?? '',
    recordedAt: recordedAt ?? '',
  };
}

/** JSON never begins with the byte 0 of Confluent's wire format. */
function payloadOf(value: Buffer | null): Payload {
  if (value === null) return { kind: 'tombstone' };
  return value[0] === 0 ? { kind: 'avro', bytes: value } : { kind: 'json', text: value.toString() };
}
