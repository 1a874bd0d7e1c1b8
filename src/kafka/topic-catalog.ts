/**
 * The topics that Ferry writes to: created before the transaction that needs them, and known by partition count, topic id (KIP-516) and
 * size limit. Metadata is asked for in version 10, which kafkajs does not speak, because earlier ones have no topic ids.
 */
import { sleep } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import { createKafka, type KafkaOptions } from './client.ts';
import { LogReader } from './log-reader.ts';
import { type Cluster, errorTypeOf, kafkaErrorType, openCluster, sendRaw } from './protocol.ts';
import { MAX_BATCH_BYTES } from './transactional-producer.ts';

export interface TopicFacts {
  readonly topic: string;
  /** Hexadecimal; a topic that was deleted and made again has another one. */
  readonly topicId: string;
  readonly partitionCount: number;
  /** Whether we have the right to write to it; true where the broker does not tell. */
  readonly writable: boolean;
}

export interface TopicSettings {
  readonly partitions: number;
  /** -1: the broker's default. */
  readonly replicationFactor: number;
}

/** A batch's own header, and room for headers that are not ASCII. */
const BATCH_OVERHEAD_BYTES = 10_000;
const KAFKA_DEFAULT_BATCH_BYTES = 1_048_588;

/** Largest record batch that may be sent: one event of the largest size, or several small ones. */
export function largestBatchBytes(maxEventBytes: number): number {
  return Math.max(MAX_BATCH_BYTES, maxEventBytes) + BATCH_OVERHEAD_BYTES;
}

export class TopicCatalog {
  readonly #kafka: KafkaOptions;
  readonly #cluster: Cluster;
  readonly #settings: TopicSettings;
  readonly #known = new Map<string, TopicFacts>();

  constructor(kafka: KafkaOptions, cluster: Cluster, settings: TopicSettings) {
    this.#kafka = kafka;
    this.#cluster = cluster;
    this.#settings = settings;
  }

  /** Facts of a topic that `ensure` or `lookUp` has met; undefined otherwise. Synchronous, for the hot path. */
  known(topic: string): TopicFacts | undefined {
    return this.#known.get(topic);
  }

  /** Asks Kafka; null if the topic does not exist. */
  async lookUp(topic: string): Promise<TopicFacts | null> {
    const broker = await this.#cluster.findControllerBroker();
    const facts = await sendRaw(broker, encodeMetadataRequest(topic), (raw) => decodeMetadataResponse(raw, topic));
    if (facts !== null) this.#known.set(topic, facts);
    return facts;
  }

  /** Names of all topics that there are. */
  async list(): Promise<string[]> {
    const { topicMetadata } = await this.#cluster.metadata();
    return topicMetadata.map(({ topic }) => topic);
  }

  /**
   * Creates the topic if it is missing, with leaders elected when this resolves. `config` holds topic settings such as cleanup.policy. Rejects
   * with TOPIC_REFUSED if Kafka does not let us have a topic of this name, for which no waiting helps.
   */
  async ensure(
    topic: string,
    overrides: { partitions?: number; config?: Readonly<Record<string, string>> } = {},
  ): Promise<TopicFacts> {
    const existing = await this.lookUp(topic);
    if (existing !== null) return existing;
    await this.#create(topic, overrides.partitions ?? this.#settings.partitions, overrides.config ?? {});
    return this.#untilWritable(topic);
  }

  /**
   * As `ensure`, for a topic that events of up to `maxEventBytes` go to: a new one takes batches of them. Rejects with RELAY_CONFIGURATION if
   * an existing one does not, and with TOPIC_REFUSED if we may not write to it: found out by the first write, that would end a transaction
   * with other topics' events in it.
   */
  async ensureEventTopic(topic: string, maxEventBytes: number): Promise<TopicFacts> {
    const batchBytes = largestBatchBytes(maxEventBytes);
    const larger = batchBytes > KAFKA_DEFAULT_BATCH_BYTES;
    const facts = await this.ensure(topic, { config: larger ? { 'max.message.bytes': String(batchBytes) } : {} });
    if (!facts.writable) throw topicRefused(topic, 'we may not write to it');
    await this.requireSettings([topic], { batchBytes });
    return facts;
  }

  /**
   * A new topic is shown by the brokers one after the other, and metadata names leaders before these know that they lead: the first write
   * would be refused. Asking for offsets waits for the leaders; here it is only waited for the topic itself.
   */
  async #untilWritable(topic: string): Promise<TopicFacts> {
    const log = new LogReader(this.#cluster);
    const deadline = performance.now() + SHOWN_DEADLINE_MS;
    for (;;) {
      try {
        const facts = await this.lookUp(topic);
        if (facts === null)
          throw new FerryError('PART_UNREACHABLE', `Kafka created topic ${topic} but does not show it`);
        await log.ranges(topic);
        return facts;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(50);
        await this.#cluster.refreshMetadata().catch(() => {}); // fails as long as the topic is unknown
      }
    }
  }

  /**
   * The topics' own settings. Rejects with RELAY_CONFIGURATION if one would refuse a record batch of `batchBytes`, for which no retry
   * helps, or if `compacted` is wanted and the topic deletes by age what must be kept.
   */
  async requireSettings(
    topics: readonly string[],
    required: { batchBytes: number; compacted?: boolean },
  ): Promise<void> {
    if (topics.length === 0) return;
    const configNames = ['max.message.bytes', 'cleanup.policy'];
    const admin = createKafka(this.#kafka).admin();
    try {
      await admin.connect();
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: topics.map((name) => ({ type: TOPIC_RESOURCE, name, configNames })),
      });
      for (const { resourceName, configEntries } of resources) {
        checkSettings(
          resourceName,
          new Map(configEntries.map((entry) => [entry.configName, entry.configValue])),
          required,
        );
      }
    } catch (error) {
      if (!NOT_ALLOWED.has(kafkaErrorType(error) ?? '')) throw error; // who may not look finds out when it writes
    } finally {
      await admin.disconnect();
    }
  }

  async #create(topic: string, numPartitions: number, config: Readonly<Record<string, string>>): Promise<void> {
    const { replicationFactor } = this.#settings;
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
    const admin = createKafka(this.#kafka).admin();
    try {
      await admin.connect();
      await admin.createTopics({
        waitForLeaders: false, // kafkajs waits for leaders, but gives up at once on a topic that is not shown yet (seen)
        topics: [{ topic, numPartitions, replicationFactor, configEntries }],
      });
    } catch (error) {
      throw refusalOf(topic, kafkaErrorType(error), error) ?? error;
    } finally {
      await admin.disconnect();
    }
  }
}

/** Creates those of the topics that are missing, over a connection of its own. */
export async function ensureTopics(
  kafka: KafkaOptions,
  topics: readonly string[],
  settings: TopicSettings,
): Promise<void> {
  const cluster = await openCluster(kafka);
  try {
    const catalog = new TopicCatalog(kafka, cluster, settings);
    for (const topic of topics) await catalog.ensure(topic);
  } finally {
    await cluster.disconnect();
  }
}

/** Makes sure, over a connection of its own, that events of up to `maxEventBytes` can go to the topic. Rejects as `ensureEventTopic` does. */
export async function ensureEventTopic(
  kafka: KafkaOptions,
  topic: string,
  settings: TopicSettings,
  maxEventBytes: number,
): Promise<void> {
  const cluster = await openCluster(kafka);
  try {
    await new TopicCatalog(kafka, cluster, settings).ensureEventTopic(topic, maxEventBytes);
  } finally {
    await cluster.disconnect();
  }
}

/** Null for an error that is about more than this topic, or that may pass. */
function refusalOf(topic: string, type: string | null, cause?: unknown): FerryError | null {
  return type !== null && REFUSALS.has(type) ? topicRefused(topic, type, cause) : null;
}

function topicRefused(topic: string, why: string, cause?: unknown): FerryError {
  return new FerryError('TOPIC_REFUSED', `Kafka does not let us have topic ${topic}: ${why}`, { cause });
}

function checkSettings(
  topic: string,
  settings: ReadonlyMap<string, string>,
  { batchBytes, compacted = false }: { batchBytes: number; compacted?: boolean },
): void {
  const limit = Number(settings.get('max.message.bytes') ?? batchBytes);
  if (limit < batchBytes) {
    throw new FerryError(
      'RELAY_CONFIGURATION',
      `topic ${topic} takes batches of up to ${limit} bytes: raise its max.message.bytes to ${batchBytes}, or lower MAX_EVENT_BYTES`,
    );
  }
  const policy = settings.get('cleanup.policy') ?? 'compact';
  if (compacted && policy !== 'compact') {
    throw new FerryError('RELAY_CONFIGURATION', `topic ${topic} has cleanup.policy=${policy}: set it to compact`);
  }
}

/** Kafka's ConfigResource.Type for topics; kafkajs's enum is not visible to an ES module. */
export const TOPIC_RESOURCE = 2;

const NOT_ALLOWED: ReadonlySet<string> = new Set(['TOPIC_AUTHORIZATION_FAILED', 'CLUSTER_AUTHORIZATION_FAILED']);

/**
 * Of a topic's making, and of who asks about it: they are about this name alone. Kafka has INVALID_TOPIC_EXCEPTION also for one like another
 * but for `.` and `_`.
 */
const REFUSALS: ReadonlySet<string> = new Set([
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'TOPIC_AUTHORIZATION_FAILED',
]);

/** How long after its making a topic may stay unknown to some broker. */
const SHOWN_DEADLINE_MS = 5_000;

const METADATA = { apiKey: 3, apiVersion: 10, apiName: 'Metadata' } as const;
const NO_TAGS = 0;

/** Source: Kafka's MetadataRequest.json, flexible encoding (KIP-482); the leading 0 ends the request header of version 2. */
function encodeMetadataRequest(topic: string) {
  const name = Buffer.from(topic);
  const payload = Buffer.concat([
    Buffer.from([NO_TAGS, 2]), // one topic: compact arrays and strings carry length + 1
    Buffer.alloc(16), // topic id: by name
    unsignedVarint(name.length + 1),
    name,
    Buffer.from([NO_TAGS, 0, 0, 1, NO_TAGS]), // no auto creation; what we may do with the topic, not with the cluster
  ]);
  return { ...METADATA, payload };
}

function decodeMetadataResponse(raw: Buffer, topic: string): TopicFacts | null {
  const reader = new FlexibleReader(raw);
  reader.tags(); // of the response header, version 1
  reader.skip(4); // throttle time
  for (let brokers = reader.count(); brokers > 0; brokers--) {
    reader.skip(4);
    reader.text();
    reader.skip(4);
    reader.text();
    reader.tags();
  }
  reader.text(); // cluster id
  reader.skip(4); // controller id
  if (reader.count() !== 1) throw new Error(`metadata of ${topic}: not one topic in the answer`);
  const errorCode = reader.int16();
  reader.text();
  const topicId = reader.hex(16);
  reader.skip(1); // is internal
  const partitionCount = reader.count();
  if (errorCode === UNKNOWN_TOPIC) return null;
  if (errorCode !== 0) throw metadataError(topic, errorCode);
  for (let left = partitionCount; left > 0; left--) skipPartition(reader);
  const operations = reader.int32();
  return { topic, topicId, partitionCount, writable: operations === NOT_TOLD || (operations & MAY_WRITE) !== 0 };
}

const UNKNOWN_TOPIC = 3;

function metadataError(topic: string, code: number): FerryError {
  const unreachable = `Kafka answers error ${code} when asked about topic ${topic}`;
  return refusalOf(topic, errorTypeOf(code)) ?? new FerryError('PART_UNREACHABLE', unreachable);
}

/** A bit for each of Kafka's AclOperation, by its code (KIP-430); a broker that has no authorizer sets them all. */
const MAY_WRITE = 1 << 4;
const NOT_TOLD = -(2 ** 31);

function skipPartition(reader: FlexibleReader): void {
  reader.skip(14); // error code, index, leader, leader epoch
  for (let lists = 3; lists > 0; lists--) reader.skip(4 * reader.count()); // replicas: all, in sync, offline
  reader.tags();
}

function unsignedVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** Reads Kafka's flexible encoding: compact strings and arrays, tagged fields. */
class FlexibleReader {
  readonly #raw: Buffer;
  #at = 0;

  constructor(raw: Buffer) {
    this.#raw = raw;
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  int32(): number {
    this.#at += 4;
    return this.#raw.readInt32BE(this.#at - 4);
  }

  int16(): number {
    this.#at += 2;
    return this.#raw.readInt16BE(this.#at - 2);
  }

  hex(bytes: number): string {
    this.#at += bytes;
    return this.#raw.toString('hex', this.#at - bytes, this.#at);
  }

  #varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#raw.readUInt8(this.#at++);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  /** Length of a compact array; a null one counts as empty. */
  count(): number {
    return Math.max(0, this.#varint() - 1);
  }

  text(): string {
    const length = this.count();
    this.#at += length;
    return this.#raw.toString('utf8', this.#at - length, this.#at);
  }

  tags(): void {
    for (let left = this.#varint(); left > 0; left--) {
      this.#varint();
      this.skip(this.#varint());
    }
  }
}
