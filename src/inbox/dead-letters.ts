/** A consumer group's dead letters: records that it could not apply, as they came, with what went wrong in their headers. */
import { deadLetterHeaders, originalHeaders } from '../events/dead-letter.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic } from '../events/routes.ts';
import type { KafkaOptions } from '../kafka/client.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import type { TopicSettings } from '../kafka/topic-catalog.ts';
import { type AppendedRecord, type LogPosition, recordBytes, TopicWriter } from '../kafka/topic-writer.ts';
import { identityOf } from './consumed-event.ts';
import type { Failure } from './failure.ts';
import type { InboxEntry, ParkedKey } from './inbox-store.ts';
import { type RetryPolicy, triesOf } from './retry-policy.ts';

export interface DeadLetter {
  readonly record: LogRecord;
  readonly failure: Pick<Failure, 'code' | 'type' | 'message'> & { readonly stack?: string };
  /** Tries after the first. */
  readonly retries: number;
  readonly firstFailedAtMs: number;
  /** Whether the same bytes may succeed later without an edit, a schema or a release. */
  readonly replayable: boolean;
  /** The parked event that it waits behind, if it did not fail itself. */
  readonly blockedBy: string | null;
}

/** A record that may wait in the dead-letter topic. */
export interface ParkedRecord {
  /** As it came; null if it was too large to be carried and is gone from its topic since. */
  readonly record: LogRecord | null;
  /** By what the inbox knows it; null for what it cannot know, which holds up nobody. */
  readonly entry: InboxEntry | null;
  /** Where its dead letter stands. */
  readonly at: LogPosition;
}

export interface DeadLettersOptions {
  readonly kafka: KafkaOptions;
  readonly topics: TopicSettings;
  readonly group: string;
  readonly retry: RetryPolicy;
  /** Largest record that the dead-letter topic takes. */
  readonly maxRecordBytes: number;
}

/** Room for the envelope: error text and stack are cut to 5,000 characters, the rest is small. */
const ENVELOPE_BYTES = 16_384;

export class DeadLetters {
  readonly #options: DeadLettersOptions;
  readonly #writer: TopicWriter;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
    this.#writer = new TopicWriter(options.kafka, deadLetterTopic(options.group), options.topics);
  }

  get topic(): string {
    return this.#writer.topic;
  }

  /** Appends dead letters, at least once; resolves with where they stand. Rejects while Kafka is away. */
  send(letters: readonly DeadLetter[]): Promise<LogPosition[]> {
    return this.#writer.append(letters.map((letter) => this.#compose(letter)));
  }

  /** Whether the first letter of a parked key is still where it was written: retention takes the first ones first. */
  async hasFirst(parked: ParkedKey, first: LogPosition): Promise<boolean> {
    const letter = await this.#writer.recordAt(this.topic, first);
    return letter !== null && isOfKey(letter, parked);
  }

  /** What was dead-lettered of a parked key, in that order, parked or not: the inbox knows. */
  async *readParked(parked: ParkedKey, first: LogPosition): AsyncGenerator<ParkedRecord> {
    for await (const letter of this.#writer.readFrom(first)) {
      if (!isOfKey(letter, parked)) continue;
      const at = { partition: letter.partition, offset: letter.offset };
      const entry = letter.headers.error_code === 'TOO_OLD_TO_DEDUPE' ? null : identityOf(letter);
      const source = sourceOf(letter);
      const carried = letter.headers.original_record === 'value';
      const record = carried
        ? { ...letter, ...source, headers: originalHeaders(letter.headers) }
        : await this.originalOf(source);
      yield { record, entry, at };
    }
  }

  /** The record of which only a reference could be carried; null if it is gone from its topic. */
  originalOf({ topic, ...position }: LogPosition & { topic: string }): Promise<LogRecord | null> {
    return this.#writer.recordAt(topic, position);
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  #compose({ record, failure, retries, firstFailedAtMs, replayable, blockedBy }: DeadLetter): AppendedRecord {
    const { topic, partition, offset } = record;
    const cause = {
      ...failure,
      retryCount: retries,
      maxRetries: triesOf(this.#options.retry, record.headers.ce_type ?? '') - 1,
      firstFailedAt: new Date(firstFailedAtMs).toISOString(),
      failedAt: new Date().toISOString(),
      replayable,
    };
    const source = { topic, partition, offset: String(offset) };
    const consumer = { group: this.#options.group, blockedBy };
    if (recordBytes(record) + ENVELOPE_BYTES <= this.#options.maxRecordBytes) {
      const headers = { ...record.headers, ...deadLetterHeaders(cause, source, 'value', consumer) };
      return { key: record.key, value: record.value, headers };
    }
    const entry = identityOf(record);
    const identity = entry === null ? {} : { [HEADER.id]: entry.id, [HEADER.recordedAt]: entry.recordedAt };
    const reference = `${topic}/${partition}/${offset}`;
    const headers = { ...identity, ...deadLetterHeaders(cause, source, reference, consumer) };
    return { key: record.key, value: null, headers };
  }
}

function isOfKey({ headers, key: own }: LogRecord, { topic, key }: ParkedKey): boolean {
  return headers.source_topic === topic && own !== null && own.equals(key);
}

function sourceOf({ headers }: LogRecord): LogPosition & { topic: string } {
  const { source_topic: topic = '', source_partition: partition, source_offset: offset } = headers;
  return { topic, partition: Number(partition ?? 0), offset: BigInt(offset ?? 0) };
}
