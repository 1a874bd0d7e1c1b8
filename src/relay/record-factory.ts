/**
 * Makes Kafka records of outbox events: encoded by the registry's schema, or, when they cannot be, dead letters. Never throws for what an
 * event holds: a poison event must not stop the slot.
 */
import { deadLetterHeaders } from '../events/dead-letter.ts';
import { type EncodeRefusal, type EncodeResult, type EventEncoder, encodeFresh } from '../events/encoder.ts';
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import { partitionOf } from '../events/partition.ts';
import { eventHeaders, HEADER, type OutgoingRecord, replayHeaders } from '../events/record.ts';
import type { ReplayMessage } from '../events/replay-message.ts';
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import { ERRORS, FerryError } from '../kernel/errors.ts';
import { formatLsn } from '../kernel/lsn.ts';
import type { BatchEntry } from './batch.ts';

/** Known topics, and how to get to know one. */
export interface TopicDirectory {
  /** Partition count, or undefined if the topic was not met yet. */
  partitions(topic: string): number | undefined;
  /** Creates the topic if it is missing. Rejects with RELAY_PARTITIONS_CHANGED or when Kafka cannot be reached. */
  meet(topic: string): Promise<number>;
  /** As `meet`, for a topic that holds copies: it may be deleted or changed one day, so no checkpoint depends on it. */
  meetAside(topic: string): Promise<number>;
}

export interface RecordFactoryOptions {
  readonly encoder: EventEncoder;
  readonly routes: TopicRoutes;
  readonly topics: TopicDirectory;
  readonly source: string;
  readonly maxEventBytes: number;
}

/** A row of the outbox that is no event. */
export interface MalformedRow {
  readonly id: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly refusal: EncodeRefusal;
  readonly original: Buffer;
}

export class RecordFactory {
  readonly #options: RecordFactoryOptions;

  constructor(options: RecordFactoryOptions) {
    this.#options = options;
  }

  /** The entry, if that needs nothing but memory; null if `make` must be awaited. This is the path of nearly every event. */
  tryMake(event: OutboxEvent, position: Position): BatchEntry | null {
    const topic = this.#options.routes.tryTopicOf(event.aggregateType);
    if (topic === null) return null;
    const partitions = this.#options.topics.partitions(topic);
    if (partitions === undefined) return null;
    const encoded = this.#options.encoder.encode(event, topic);
    return encoded.ok ? this.#entry(event, position, topic, partitions, encoded) : null;
  }

  /** The entry, or its dead letter. Rejects only when something is unreachable: then the event waits. */
  async make(event: OutboxEvent, position: Position): Promise<BatchEntry> {
    const topic = this.#options.routes.tryTopicOf(event.aggregateType);
    if (topic === null) {
      const refusal: EncodeRefusal = {
        code: 'TOPIC_INVALID',
        message: 'the aggregatetype leads to no legal topic name',
        path: null,
      };
      return this.#deadLetter(event, position, this.#options.routes.unrouted, refusal);
    }
    const encoded = await encodeFresh(this.#options.encoder, event, topic);
    if (!encoded.ok) return this.#deadLetter(event, position, topic, encoded.refusal);
    const partitions = this.#options.topics.partitions(topic) ?? (await this.#options.topics.meet(topic));
    const entry = this.#entry(event, position, topic, partitions, encoded);
    return entry ?? this.#deadLetter(event, position, topic, this.#tooLarge());
  }

  /**
   * The entry of an event that is published once more: under the subject of its own topic, also where it goes to a side topic; or its dead
   * letter, beside those of its own topic. That is no dead letter of the event itself, which was published before. Rejects as `make` does.
   */
  async makeReplayed(message: ReplayMessage, position: Position): Promise<BatchEntry> {
    const event = { ...message.event, headers: { ...message.event.headers, ...replayHeaders(message) } };
    const made = await this.#makeReplayed(event, message.topic, position);
    return { ...made, byControl: true, deadLetter: null };
  }

  async #makeReplayed(event: OutboxEvent, sideTopic: string | null, position: Position): Promise<BatchEntry> {
    const ownTopic = this.#options.routes.tryTopicOf(event.aggregateType);
    if (sideTopic === null || ownTopic === null) return this.make(event, position);
    const encoded = await encodeFresh(this.#options.encoder, event, ownTopic);
    if (!encoded.ok) return this.#deadLetter(event, position, ownTopic, encoded.refusal);
    try {
      const partitions = await this.#options.topics.meetAside(sideTopic);
      const entry = this.#entry(event, position, sideTopic, partitions, encoded);
      return entry ?? this.#deadLetter(event, position, ownTopic, this.#tooLarge());
    } catch (error) {
      // A side topic that was made unfit is no reason to stop what is live.
      if (!(error instanceof FerryError) || error.retryable) throw error;
      const { code, message } = error;
      return this.#deadLetter(event, position, ownTopic, { code, message, path: null });
    }
  }

  /** The dead letter of a row that could not even be read as an event. */
  async makeMalformed(row: MalformedRow, position: Position): Promise<BatchEntry> {
    const topic = this.#options.routes.tryTopicOf(row.aggregateType) ?? this.#options.routes.unrouted;
    const identity = { id: row.id, aggregateId: row.aggregateId, traceparent: null };
    // without its id a reset would not find that Kafka holds it, and publish it again
    return this.#deadLetterRecord(identity, row.original, { [HEADER.id]: row.id }, position, topic, row.refusal);
  }

  /** Null if the record is too large with its headers. */
  #entry(
    event: OutboxEvent,
    position: Position,
    topic: string,
    partitions: number,
    encoded: EncodeResult & { ok: true },
  ): BatchEntry | null {
    const { value, schemaId, subject } = encoded;
    const schema = schemaId === null || subject === null ? null : { id: schemaId, subject };
    const headers = eventHeaders(event, position, this.#options.source, schema);
    const record = {
      topic,
      partition: partitionOf(event.aggregateId, partitions),
      key: event.aggregateId,
      value,
      headers,
    };
    const bytes = recordBytes(record);
    if (bytes > this.#options.maxEventBytes) return null;
    const { id: eventId, traceparent } = event;
    return { record, bytes, eventId, traceparent, position, doneSeq: position.seq, byControl: false, deadLetter: null };
  }

  #deadLetter(event: OutboxEvent, position: Position, topic: string, refusal: EncodeRefusal): Promise<BatchEntry> {
    const headers = eventHeaders(event, position, this.#options.source, null);
    return this.#deadLetterRecord(event, originalBytes(event), headers, position, topic, refusal);
  }

  async #deadLetterRecord(
    identity: { id: string; aggregateId: string; traceparent: string | null },
    original: Buffer | null,
    ownHeaders: Record<string, string>,
    position: Position,
    sourceTopic: string,
    refusal: EncodeRefusal,
  ): Promise<BatchEntry> {
    const topic = deadLetterTopic(sourceTopic);
    const partitions = this.#options.topics.partitions(topic) ?? (await this.#options.topics.meet(topic));
    const now = new Date().toISOString();
    const { code, message } = refusal;
    const replayable = ERRORS[code].retryable;
    const cause = {
      type: 'EncodeRefusal',
      code,
      message,
      retryCount: 0,
      maxRetries: 0,
      firstFailedAt: now,
      failedAt: now,
      replayable,
    };
    const source = { topic: sourceTopic, lsn: formatLsn(position.commitLsn), seq: position.seq };
    const base = { topic, partition: partitionOf(identity.aggregateId, partitions), key: identity.aggregateId };
    const whole = {
      ...base,
      value: original,
      headers: { ...ownHeaders, ...deadLetterHeaders(cause, source, 'value') },
    };
    const reference = `outbox:${identity.id}`;
    const fits = recordBytes(whole) <= this.#options.maxEventBytes;
    // Too large even without its body means that the writer's headers are: they stay in the outbox row with the rest.
    const record = fits
      ? whole
      : { ...base, value: null, headers: { [HEADER.id]: identity.id, ...deadLetterHeaders(cause, source, reference) } };
    const { id: eventId, traceparent } = identity;
    const bytes = recordBytes(record);
    return { record, bytes, eventId, traceparent, position, doneSeq: position.seq, byControl: false, deadLetter: code };
  }

  #tooLarge(): EncodeRefusal {
    const message = `the record with its headers is larger than MAX_EVENT_BYTES (${this.#options.maxEventBytes})`;
    return { code: 'EVENT_TOO_LARGE', message, path: null };
  }
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

/** About what the record takes in a batch; exact for ASCII keys and headers. */
function recordBytes(record: OutgoingRecord): number {
  let bytes = 24 + (record.key?.length ?? 0) + (record.value?.length ?? 0);
  for (const name in record.headers) bytes += 4 + name.length + (record.headers[name]?.length ?? 0);
  return bytes;
}
