/**
 * An outbox event as a Kafka record: key, headers and partition. CloudEvents 1.0 in Kafka's binary content mode, plus the trace
 * context and Ferry's own position headers, with which a consumer can deduplicate and order without decoding the value.
 */
import { type EventId, eventIdTimeMs } from '../kernel/event-id.ts';
import { formatLsn } from '../kernel/lsn.ts';
import { isUtcTime, utcTimeOf } from '../kernel/utc-time.ts';
import type { OutboxEvent, Position } from './outbox-event.ts';
import type { ReplayMessage } from './replay-message.ts';

/** A record ready to send. */
export interface OutgoingRecord {
  readonly topic: string;
  readonly partition: number;
  readonly key: string | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, string>;
}

export const HEADER = {
  id: 'ce_id',
  type: 'ce_type',
  source: 'ce_source',
  subject: 'ce_subject',
  time: 'ce_time',
  dataSchema: 'ce_dataschema',
  specVersion: 'ce_specversion',
  contentType: 'content-type',
  traceparent: 'traceparent',
  lsn: 'ferry_lsn',
  seq: 'ferry_seq',
  aggregateType: 'ferry_aggregate_type',
  aggregateVersion: 'ferry_aggregate_version',
  recordedAt: 'ferry_recorded_at',
  /** Of a record that a replay published: the replay, its reason, the record's number in it from 1, and whose copy under a new id it is. */
  replayId: 'ferry_replay_id',
  replayReason: 'ferry_replay_reason',
  replayOrdinal: 'ferry_replay_ordinal',
  replayOf: 'ferry_replay_of',
  /** Of the release that published it after it had been a dead letter. */
  release: 'ferry_release_id',
  /** `true`: it was released alone, behind newer events of its key, which did not wait for it. */
  releasedAlone: 'ferry_released_alone',
} as const;

/**
 * Whether Ferry or CloudEvents gives a header of this name its meaning, so that only who is trusted may set it: besides the headers above
 * also what sagas are answered by (saga-headers.ts). Whatever its case, as some clients read headers.
 */
export function isReservedHeader(name: string): boolean {
  return /^(ce|ferry)_/i.test(name);
}

/** Headers of one event. The writer's own come first: they can add names but not replace Ferry's. */
export function eventHeaders(
  event: OutboxEvent,
  position: Position,
  source: string,
  schema: { id: number; subject: string } | null,
): Record<string, string> {
  const headers: Record<string, string> = { ...event.headers };
  headers[HEADER.id] = event.id;
  headers[HEADER.type] = event.type;
  headers[HEADER.source] = source;
  headers[HEADER.subject] = event.aggregateId;
  headers[HEADER.time] = event.occurredAt;
  headers[HEADER.specVersion] = '1.0';
  if (schema !== null) {
    headers[HEADER.contentType] = 'application/vnd.confluent.avro';
    headers[HEADER.dataSchema] = dataSchemaOf(schema);
  }
  if (event.traceparent !== null) headers[HEADER.traceparent] = event.traceparent;
  headers[HEADER.lsn] = formatLsn(position.commitLsn);
  headers[HEADER.seq] = String(position.seq);
  headers[HEADER.aggregateType] = event.aggregateType;
  if (event.aggregateVersion !== null) headers[HEADER.aggregateVersion] = String(event.aggregateVersion);
  headers[HEADER.recordedAt] = event.recordedAt;
  return headers;
}

/** What a replay adds to the headers of an event. */
export function replayHeaders({ replay, reason, ordinal, of }: Omit<ReplayMessage, 'event'>): Record<string, string> {
  return {
    [HEADER.replayId]: replay,
    [HEADER.replayReason]: reason,
    [HEADER.replayOrdinal]: String(ordinal),
    ...(of === null ? {} : { [HEADER.replayOf]: of }),
  };
}

let lastSchema = { id: -1, subject: '', text: '' };

/** Neighbours mostly have the same schema: its text is made once, and flat, which a concatenation is not. */
function dataSchemaOf({ id, subject }: { id: number; subject: string }): string {
  if (lastSchema.id !== id || lastSchema.subject !== subject) {
    lastSchema = { id, subject, text: `schema-registry:${subject}:${id}` };
  }
  return lastSchema.text;
}

/** When a record's event was recorded, RFC 3339 in UTC. Producers other than Ferry may leave the header out or put anything there; the id holds the time to the millisecond. */
export function recordedAtOf(headers: Readonly<Record<string, string>>, id: EventId): string {
  const header = headers[HEADER.recordedAt];
  return header !== undefined && isUtcTime(header) ? header : utcTimeOf(eventIdTimeMs(id));
}

/** About what the record takes in a batch; exact for ASCII keys and headers. */
export function recordBytes(record: OutgoingRecord): number {
  let bytes = 24 + (record.key?.length ?? 0) + (record.value?.length ?? 0);
  for (const name in record.headers) bytes += 4 + name.length + (record.headers[name]?.length ?? 0);
  return bytes;
}
