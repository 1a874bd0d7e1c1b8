/** The Sink port on Kafka: a transactional producer, a compacted checkpoint topic, and the topics that events go to. */
import { partitionOf } from '../events/partition.ts';
import { HEADER, type OutgoingRecord } from '../events/record.ts';
import type { KafkaOptions } from '../kafka/client.ts';
import { LogReader } from '../kafka/log-reader.ts';
import { type Cluster, openCluster } from '../kafka/protocol.ts';
import { largestBatchBytes, TopicCatalog, type TopicFacts, type TopicSettings } from '../kafka/topic-catalog.ts';
import { TransactionalProducer } from '../kafka/transactional-producer.ts';
import { withDeadline } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { type Checkpoint, encodeCheckpoint, type PinnedTopic } from './checkpoint.ts';
import { readNewestCheckpoint } from './checkpoint-log.ts';
import type { ParkedRecord } from './parked-keys.ts';
import type { DeadLetterRecord, OpenSink, PublishedId, Sink } from './sink.ts';

export interface KafkaSinkOptions {
  readonly kafka: KafkaOptions;
  readonly topics: TopicSettings;
  readonly checkpointTopic: string;
  readonly parkedTopic: string;
  readonly transactionTimeoutMs: number;
  /** Largest record; a topic that takes no batch of that size is refused. */
  readonly maxEventBytes: number;
  readonly failPoint: FailPoint;
}

interface SinkOptions extends KafkaSinkOptions {
  readonly name: string;
  readonly transactionalId: string;
}

/** Read whole at each start, and compaction leaves the newest segment as it is. */
const PARKED_SEGMENT_BYTES = 16_777_216;
const READ_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 1_000;

export function kafkaSinkOpener(options: KafkaSinkOptions): OpenSink {
  return (relay) => KafkaSink.open({ ...options, ...relay });
}

class KafkaSink implements Sink {
  readonly #options: SinkOptions;
  readonly #cluster: Cluster;
  readonly #catalog: TopicCatalog;
  readonly #reader: LogReader;
  readonly #pinned = new Map<string, PinnedTopic>();
  /** Partition counts of side topics that this session has met. */
  readonly #aside = new Map<string, number>();
  #producer: TransactionalProducer | null = null;

  private constructor(options: SinkOptions, cluster: Cluster) {
    this.#options = options;
    this.#cluster = cluster;
    this.#catalog = new TopicCatalog(options.kafka, cluster, options.topics);
    this.#reader = new LogReader(cluster);
  }

  /** Connects and makes sure that the checkpoint topic exists; fences nobody. */
  static async open(options: SinkOptions): Promise<KafkaSink> {
    const sink = new KafkaSink(options, await openCluster(options.kafka));
    try {
      const { checkpointTopic, parkedTopic } = options;
      const config = { 'cleanup.policy': 'compact' };
      await sink.#catalog.ensure(checkpointTopic, { partitions: 1, config });
      await sink.#meetParked({ ...config, 'segment.bytes': String(PARKED_SEGMENT_BYTES) });
      await sink.#catalog.requireSettings([checkpointTopic, parkedTopic], { batchBytes: 0, compacted: true });
    } catch (error) {
      await sink.close().catch(() => {});
      throw error;
    }
    return sink;
  }

  /** kafkajs waits for the answers of requests in flight: a broker that hangs must not keep the session, and its slot, open. */
  async close(): Promise<void> {
    await withDeadline('closing Kafka', CLOSE_TIMEOUT_MS, this.#cluster.disconnect());
  }

  peek(): Promise<Checkpoint | null> {
    return this.#newest('last-stable');
  }

  async fence(prove: () => Promise<unknown>): Promise<void> {
    const { transactionalId, transactionTimeoutMs } = this.#options;
    this.#producer = await withDeadline(
      'fencing older producers',
      READ_TIMEOUT_MS,
      TransactionalProducer.open(this.#cluster, { transactionalId, transactionTimeoutMs, prove }),
    );
  }

  readCheckpoint(): Promise<Checkpoint | null> {
    this.#options.failPoint('while-reading-checkpoint');
    return this.#newest('high-watermark');
  }

  #newest(until: 'high-watermark' | 'last-stable'): Promise<Checkpoint | null> {
    return readNewestCheckpoint(this.#reader, this.#options.checkpointTopic, until, READ_TIMEOUT_MS);
  }

  async pin(topics: Checkpoint['topics']): Promise<void> {
    for (const [topic, pinned] of topics) {
      const facts = await this.#catalog.lookUp(topic);
      if (facts === null || facts.topicId !== pinned.id || facts.partitionCount !== pinned.partitions) {
        const now =
          facts === null
            ? 'does not exist'
            : facts.topicId !== pinned.id
              ? 'was made anew'
              : `has ${facts.partitionCount} partitions`;
        const lost =
          topic === this.parkedTopic ? 'it is lost which keys are parked' : 'keys would change their partition';
        throw new FerryError(
          'RELAY_PARTITIONS_CHANGED',
          `topic ${topic} had ${pinned.partitions} partitions when it was last written and ${now}: ${lost}`,
        );
      }
      this.#pinned.set(topic, pinned);
    }
    const batchBytes = largestBatchBytes(this.#options.maxEventBytes);
    await this.#catalog.requireSettings([...topics.keys()], { batchBytes });
  }

  /** Pinned from the start, so that one that is deleted later is missed: read as an empty one it would free every key. */
  async #meetParked(config: Readonly<Record<string, string>>): Promise<void> {
    const facts = await this.#catalog.ensure(this.parkedTopic, { partitions: 1, config });
    this.#pinned.set(this.parkedTopic, { id: facts.topicId, partitions: facts.partitionCount });
  }

  get parkedTopic(): string {
    return this.#options.parkedTopic;
  }

  readParked(): AsyncIterable<ParkedRecord> {
    return this.#reader.readAll([this.parkedTopic], READ_TIMEOUT_MS);
  }

  async *deadLetters(topic: string, key: string, ids: ReadonlySet<string>): AsyncGenerator<DeadLetterRecord> {
    const facts = await this.#catalog.lookUp(topic);
    if (facts === null) return;
    const partition = partitionOf(key, facts.partitionCount);
    for (const range of await this.#reader.ranges(topic)) {
      if (range.partition !== partition) continue;
      for await (const { headers, value } of this.#reader.read(range, READ_TIMEOUT_MS)) {
        const id = headers[HEADER.id];
        if (id !== undefined && ids.has(id)) yield { id, value, headers };
      }
    }
  }

  async *publishedIds(topics: readonly string[]): AsyncGenerator<PublishedId> {
    for (const topic of topics) {
      if ((await this.#catalog.lookUp(topic)) === null) continue;
      for await (const { headers } of this.#reader.readAll([topic], READ_TIMEOUT_MS)) {
        const id = headers[HEADER.id];
        if (id !== undefined) yield { topic, id };
      }
    }
  }

  get topics(): ReadonlyMap<string, PinnedTopic> {
    return this.#pinned;
  }

  partitions(topic: string): number | undefined {
    return this.#pinned.get(topic)?.partitions;
  }

  async meet(topic: string): Promise<number> {
    const facts = await this.#ensure(topic);
    this.#pinned.set(topic, { id: facts.topicId, partitions: facts.partitionCount });
    return facts.partitionCount;
  }

  async meetAside(topic: string): Promise<number> {
    const known = this.#pinned.get(topic)?.partitions ?? this.#aside.get(topic);
    if (known !== undefined) return known;
    const { partitionCount } = await this.#ensure(topic);
    this.#aside.set(topic, partitionCount);
    return partitionCount;
  }

  /** The topic, made if it is missing, that takes our batches. */
  #ensure(topic: string): Promise<TopicFacts> {
    return this.#catalog.ensureEventTopic(topic, this.#options.maxEventBytes);
  }

  async commit(records: readonly OutgoingRecord[], checkpoint: Checkpoint, onSent: () => void): Promise<void> {
    if (this.#producer === null) throw new Error('commit before fence');
    // A new producer needs the whole proof again that the slot is ours, so the session ends here and the next one begins.
    if (this.#producer.exhausted) throw new Error('the producer has used up its sequence numbers');
    const { checkpointTopic, name, transactionTimeoutMs } = this.#options;
    const value = encodeCheckpoint({ ...checkpoint, topics: this.#pinned });
    const position: OutgoingRecord = { topic: checkpointTopic, partition: 0, key: name, value, headers: {} };
    await withDeadline(
      'a Kafka transaction',
      transactionTimeoutMs,
      this.#producer.commit([...records, position], onSent),
    );
  }
}
