/**
 * Appends records to one topic of ours, at least once: what was appended is acknowledged by all in-sync replicas when `append` resolves, and
 * whoever repeats a failed one may append twice. Makes the topic if it is missing, and tells where its records stand.
 */
import { Partitioners, type Producer } from 'kafkajs';
import { partitionOf } from '../events/partition.ts';
import { createKafka, type KafkaOptions } from './client.ts';
import { LogReader, type LogRecord } from './log-reader.ts';
import { type Cluster, openCluster } from './protocol.ts';
import { TopicCatalog, type TopicSettings } from './topic-catalog.ts';

export type AppendedRecord = Pick<LogRecord, 'key' | 'value' | 'headers'>;

export interface LogPosition {
  readonly partition: number;
  readonly offset: bigint;
}

const READ_TIMEOUT_MS = 30_000;

export class TopicWriter {
  readonly topic: string;
  readonly #kafka: KafkaOptions;
  readonly #settings: TopicSettings;
  #open: Promise<Connections> | null = null;

  constructor(kafka: KafkaOptions, topic: string, settings: TopicSettings) {
    this.#kafka = kafka;
    this.topic = topic;
    this.#settings = settings;
  }

  /**
   * Appends records, those of one key in their order, each to the partition that Java's producer would choose; resolves with their
   * positions. Rejects when not all were acknowledged: some may have been.
   */
  async append(records: readonly AppendedRecord[]): Promise<LogPosition[]> {
    const positions: LogPosition[] = [];
    for (const request of requestsOf(records)) positions.push(...(await this.#send(request)));
    return positions;
  }

  async #send(records: readonly AppendedRecord[]): Promise<LogPosition[]> {
    const { producer, partitions } = await this.#connections();
    const placed = records.map((record) => partitionOf(record.key?.toString() ?? '', partitions));
    try {
      const answers = await producer.send({
        topic: this.topic,
        acks: -1,
        messages: records.map(({ key, value, headers }, i) => ({
          key,
          value,
          headers: { ...headers },
          partition: placed[i] ?? 0,
        })),
      });
      const next = new Map(answers.map(({ partition, baseOffset }) => [partition, BigInt(baseOffset ?? -1)]));
      return placed.map((partition) => {
        const offset = next.get(partition) ?? -1n;
        if (offset < 0n) throw new Error(`${this.topic}/${partition} did not acknowledge what was appended`); // tulios/kafkajs#1303
        next.set(partition, offset + 1n);
        return { partition, offset };
      });
    } catch (error) {
      await this.close(); // never used again after an error: the next append has fresh connections
      throw error;
    }
  }

  /** Committed records of one partition from an offset to the present end. Rejects when they cannot be read to the end. */
  async *readFrom({ partition, offset }: LogPosition): AsyncGenerator<LogRecord> {
    const { log } = await this.#connections();
    const range = (await log.ranges(this.topic)).find((candidate) => candidate.partition === partition);
    if (range === undefined) throw new Error(`topic ${this.topic} has no partition ${partition}`);
    const from = offset > range.from ? offset : range.from;
    if (from < range.to) yield* log.read({ ...range, from }, READ_TIMEOUT_MS);
  }

  /** One record of any topic; null if it is there no more. */
  async recordAt(topic: string, { partition, offset }: LogPosition): Promise<LogRecord | null> {
    const { log } = await this.#connections();
    const range = (await log.ranges(topic)).find((candidate) => candidate.partition === partition);
    if (range === undefined || offset < range.from || offset >= range.to) return null;
    for await (const record of log.read({ ...range, from: offset, to: offset + 1n }, READ_TIMEOUT_MS)) return record;
    return null;
  }

  /** Safe to call twice; the next use connects again. */
  async close(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    const connections = await open?.catch(() => null);
    await Promise.allSettled([connections?.producer.disconnect(), connections?.cluster.disconnect()]);
  }

  #connections(): Promise<Connections> {
    this.#open ??= this.#connect().catch((error) => {
      this.#open = null;
      throw error;
    });
    return this.#open;
  }

  async #connect(): Promise<Connections> {
    const cluster = await openCluster(this.#kafka);
    const producer = createKafka(this.#kafka).producer({
      retry: { retries: 0 }, // with retries a send can resolve with records missing
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    try {
      // Kept for ever: a record here is the only copy that waits to be dealt with.
      const catalog = new TopicCatalog(this.#kafka, cluster, this.#settings);
      const { partitionCount } = await catalog.ensure(this.topic, { config: { 'retention.ms': '-1' } });
      await producer.connect();
      return { cluster, producer, log: new LogReader(cluster), partitions: partitionCount };
    } catch (error) {
      await Promise.allSettled([producer.disconnect(), cluster.disconnect()]);
      throw error;
    }
  }
}

/** kafkajs makes one batch of what a request has for a partition, and Kafka takes batches of 1 MiB by default. */
const MAX_REQUEST_BYTES = 900_000;

/** A record that is larger goes by itself: whether Kafka takes it is the caller's concern. */
function requestsOf(records: readonly AppendedRecord[]): AppendedRecord[][] {
  const requests: AppendedRecord[][] = [];
  let bytes = 0;
  for (const record of records) {
    const size = recordBytes(record);
    const request = requests.at(-1);
    if (request === undefined || bytes + size > MAX_REQUEST_BYTES) {
      requests.push([record]);
      bytes = size;
    } else {
      request.push(record);
      bytes += size;
    }
  }
  return requests;
}

const RECORD_OVERHEAD_BYTES = 64;

/** About what a record takes in Kafka. */
export function recordBytes({ key, value, headers }: AppendedRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, text] of Object.entries(headers)) bytes += name.length + Buffer.byteLength(text) + 4;
  return bytes;
}

interface Connections {
  readonly cluster: Cluster;
  readonly producer: Producer;
  readonly log: LogReader;
  readonly partitions: number;
}
