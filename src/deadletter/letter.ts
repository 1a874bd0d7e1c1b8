/** A record of a dead-letter topic, read: whose it is, what it was, and why it is there. Pure, and takes whatever a record may hold. */
import { originalHeaders } from '../events/dead-letter.ts';
import { HEADER, recordedAtOf } from '../events/record.ts';
import { deadLetterTopic } from '../events/routes.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { type EventId, isEventId } from '../kernel/event-id.ts';
import { isUtcTime, utcTimeOf } from '../kernel/utc-time.ts';

export interface Letter {
  /** Null: the relay's. */
  readonly group: string | null;
  readonly eventId: EventId | null;
  /** RFC 3339; null without an event id. */
  readonly recordedAt: string | null;
  readonly type: string | null;
  readonly sourceTopic: string;
  /** In the source topic `<partition>/<offset>`, in the WAL `<commit LSN>/<seq>`. */
  readonly sourcePosition: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** Those that it had before it was set aside. */
  readonly headers: Readonly<Record<string, string>>;
  /** `value`, or where the original is. */
  readonly originalRecord: string;
  readonly code: string;
  readonly errorType: string;
  readonly errorMessage: string;
  readonly errorStack: string | null;
  readonly retryCount: number;
  readonly maxRetries: number;
  /** RFC 3339. */
  readonly firstFailedAt: string;
  readonly failedAt: string;
  readonly replayable: boolean;
  readonly blockedBy: string | null;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
}

/** Null for a record that has no envelope: whoever wrote it, it is no dead letter of Ferry's. */
export function readLetter(record: LogRecord): Letter | null {
  const { headers, topic, partition, offset, key, value } = record;
  const { error_code: code, source_topic: sourceTopic } = headers;
  if (code === undefined || sourceTopic === undefined) return null;
  const id = headers[HEADER.id] ?? '';
  const at = utcTimeOf(record.timestampMs);
  const failedAt = timeOf(headers.failed_at) ?? at;
  return {
    group: groupOf(headers, topic),
    eventId: isEventId(id) ? id : null,
    recordedAt: isEventId(id) ? recordedAtOf(headers, id) : null,
    type: textOf(headers[HEADER.type]),
    sourceTopic: storable(sourceTopic),
    sourcePosition: storable(
      headers.source_lsn === undefined
        ? `${headers.source_partition ?? '?'}/${headers.source_offset ?? '?'}`
        : `${headers.source_lsn}/${headers.source_seq ?? '?'}`,
    ),
    key,
    value,
    headers: originalHeaders(headers),
    originalRecord: storable(headers.original_record ?? 'value'),
    code: storable(code),
    errorType: storable(headers.error_type ?? ''),
    errorMessage: storable(headers.error_message ?? ''),
    errorStack: textOf(headers.error_stack),
    retryCount: countOf(headers.retry_count),
    maxRetries: countOf(headers.max_retries),
    firstFailedAt: timeOf(headers.first_failed_at) ?? failedAt,
    failedAt,
    replayable: headers.replayable === 'true',
    blockedBy: textOf(headers.blocked_by),
    topic,
    partition,
    offset,
  };
}

/** A group's topic is named for it; in the relay's the header is one that the original had: a dead letter of a dead letter. */
function groupOf({ consumer_group: group }: Readonly<Record<string, string>>, topic: string): string | null {
  return group !== undefined && topic === deadLetterTopic(group) ? storable(group) : null;
}

/** Postgres stores no U+0000. */
function storable(text: string): string {
  return text.replaceAll('\u0000', '\ufffd');
}

function textOf(header: string | undefined): string | null {
  return header === undefined ? null : storable(header);
}

function countOf(header: string | undefined): number {
  return header !== undefined && /^\d{1,9}$/.test(header) ? Number(header) : 0;
}

function timeOf(header: string | undefined): string | null {
  return header !== undefined && isUtcTime(header) ? header : null;
}
