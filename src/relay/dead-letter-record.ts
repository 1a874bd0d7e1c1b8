/** Makes the record of a dead letter: the original bytes, whatever is known of the event, and why it is one. */
import { type DeadLetterOwner, deadLetterHeaders } from '../events/dead-letter.ts';
import type { EncodeRefusal } from '../events/encoder.ts';
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import { partitionOf } from '../events/partition.ts';
import { eventHeaders, HEADER, type OutgoingRecord, recordBytes } from '../events/record.ts';
import { deadLetterTopic } from '../events/routes.ts';
import { ERRORS } from '../kernel/errors.ts';
import { formatLsn } from '../kernel/lsn.ts';
import type { TopicDirectory } from './topic-directory.ts';

/** An event, or a row that is none, as far as its dead letter must know it. */
export interface Casualty {
  readonly id: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Null of a row that could not be read. */
  readonly type: string | null;
  readonly traceparent: string | null;
  readonly original: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

export function casualtyOf(event: OutboxEvent, position: Position, source: string): Casualty {
  const { id, aggregateType, aggregateId, type, traceparent } = event;
  const headers = eventHeaders(event, position, source, null);
  return { id, aggregateType, aggregateId, type, traceparent, original: originalBytes(event), headers };
}

export interface DeadLetterOptions {
  readonly topics: TopicDirectory;
  readonly maxEventBytes: number;
}

/** `topic` is where the event would have gone. Rejects when the dead-letter topic cannot be met. */
export async function makeDeadLetter(
  { topics, maxEventBytes }: DeadLetterOptions,
  casualty: Casualty,
  position: Position,
  sourceTopic: string,
  { code, message }: EncodeRefusal,
  owner: DeadLetterOwner,
): Promise<OutgoingRecord> {
  const topic = deadLetterTopic(sourceTopic);
  const partitions = topics.partitions(topic) ?? (await topics.meet(topic));
  const now = new Date().toISOString();
  const type = owner.blockedBy === null ? 'EncodeRefusal' : 'KeyParked';
  const failed = { retryCount: 0, maxRetries: 0, firstFailedAt: now, failedAt: now };
  const cause = { type, code, message, ...failed, replayable: ERRORS[code].retryable };
  const source = { topic: sourceTopic, lsn: formatLsn(position.commitLsn), seq: position.seq };
  const key = casualty.aggregateId;
  const base = { topic, partition: partitionOf(key, partitions), key };
  const envelope = (original: string) => deadLetterHeaders(cause, source, original, owner);
  const whole = { ...base, value: casualty.original, headers: { ...casualty.headers, ...envelope('value') } };
  if (recordBytes(whole) <= maxEventBytes) return whole;
  // Too large even without its body means that the writer's headers are: they stay in the outbox row with the rest.
  return { ...base, value: null, headers: { [HEADER.id]: casualty.id, ...envelope(`outbox:${casualty.id}`) } };
}

function originalBytes(event: OutboxEvent): Buffer | null {
  switch (event.payload.kind) {
    case 'json':
      return Buffer.from(event.payload.text);
    case 'avro':
      return event.payload.bytes;
    case 'tombstone':
      return null;
  }
}
