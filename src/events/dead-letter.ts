/**
 * The dead-letter envelope, the same for the relay and for consumers: the record's value is the original bytes, everything else
 * stands in headers.
 */

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

/** What a consumer adds: whose dead letter it is, and the event that it waits behind, if it did not fail itself. */
export interface DeadLetterConsumer {
  readonly group: string;
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
  consumer?: DeadLetterConsumer,
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
    ...(consumer === undefined ? {} : { consumer_group: consumer.group }),
    ...(typeof consumer?.blockedBy === 'string' ? { blocked_by: consumer.blockedBy } : {}),
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
