/**
 * The dead-letter envelope, the same for the relay and for consumers: the record's value is the original bytes, everything else
 * stands in headers.
 */
import type { EncodeRefusal } from './encoder.ts';

export interface DeadLetterCause extends Pick<EncodeRefusal, 'code' | 'message'> {
  /** Class of the error, for grouping. */
  readonly type: string;
  readonly retryCount: number;
  readonly maxRetries: number;
  /** RFC 3339, UTC. */
  readonly firstFailedAt: string;
  readonly failedAt: string;
  /** Whether the same bytes may succeed later without being edited. */
  readonly replayable: boolean;
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
  };
}
