/** A consumer group's dead letters: records that it could not apply, as they came, with what went wrong in their headers. */
import { deadLetterHeaders, originalHeaders } from '../events/dead-letter.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic } from '../events/routes.ts';
import type { KafkaOptions } from '../kafka/client.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import type { TopicSettings } from '../kafka/topic-catalog.ts';
import { type AppendedRecord, type LogPosition, TopicWriter } from '../kafka/topic-writer.ts';
import type { Failure } from './failure.ts';
import type { ParkedKey } from './inbox-store.ts';

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

export interface DeadLettersOptions {
  readonly kafka: KafkaOptions;
  readonly topics: TopicSettings;
  readonly group: string;
  readonly maxTries: number;
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

  /**
   * The original records of a parked key, the first to be dead-lettered first, each with where its dead letter stands. A record is null
   * that was too large to be carried and is gone from its topic since.
   */
  async *readParked({ topic, key }: ParkedKey, first: LogPosition): AsyncGenerator<[LogRecord | null, LogPosition]> {
    for await (const letter of this.#writer.readFrom(first)) {
      if (letter.headers.source_topic !== topic || letter.key === null || !letter.key.equals(key)) continue;
      const source = sourceOf(letter);
      const carried = letter.headers.original_record === 'value';
      const record = carried
        ? { ...letter, ...source, headers: originalHeaders(letter.headers) }
        : await this.#writer.recordAt(topic, source);
      yield [record, { partition: letter.partition, offset: letter.offset }];
    }
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  #compose({ record, failure, retries, firstFailedAtMs, replayable, blockedBy }: DeadLetter): AppendedRecord {
    const { topic, partition, offset } = record;
    const cause = {
      ...failure,
      retryCount: retries,
      maxRetries: this.#options.maxTries - 1,
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
    const id = record.headers[HEADER.id];
    const reference = `${topic}/${partition}/${offset}`;
    const headers = deadLetterHeaders(cause, source, reference, consumer);
    return { key: record.key, value: null, headers: id === undefined ? headers : { [HEADER.id]: id, ...headers } };
  }
}

function sourceOf({ headers }: LogRecord): LogPosition & { topic: string } {
  const { source_topic: topic = '', source_partition: partition, source_offset: offset } = headers;
  return { topic, partition: Number(partition ?? 0), offset: BigInt(offset ?? 0) };
}

function recordBytes({ key, value, headers }: LogRecord): number {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, text] of Object.entries(headers)) bytes += name.length + text.length;
  return bytes;
}
