/**
 * How far a consumer group has come in its topics, asked from outside of the group: where the topics end, and whether the group has
 * committed all that stands below.
 */
import type { KafkaOptions } from './client.ts';
import { LogReader, type PartitionRange } from './log-reader.ts';
import { type Broker, type Cluster, GROUP_COORDINATOR, openCluster } from './protocol.ts';
import { TopicCatalog } from './topic-catalog.ts';

/** Offsets that a group has committed: the next one it will read, by `topic/partition`. */
export type CommittedOffsets = ReadonlyMap<string, bigint>;

export interface GroupOptions {
  readonly kafka: KafkaOptions;
  readonly groupId: string;
  readonly topics: readonly string[];
}

/** What a look into a partition told: there is no record from `from` up to `to`. */
interface Look {
  readonly from: bigint;
  readonly to: bigint;
  /** Whether one stands at `to`; otherwise the partition ended there. */
  readonly recordFollows: boolean;
}

export class GroupProgress {
  readonly #cluster: Cluster;
  readonly #coordinator: Broker;
  readonly #catalog: TopicCatalog;
  readonly #log: LogReader;
  readonly #groupId: string;
  readonly #topics: readonly string[];
  /** The newest look into each partition: a log does not change below its end, so that none is taken twice. */
  readonly #looks = new Map<string, Look>();

  /** Over a connected cluster and the group's coordinator, which it takes over; see `open`. */
  constructor({ kafka, groupId, topics }: GroupOptions, cluster: Cluster, coordinator: Broker) {
    this.#cluster = cluster;
    this.#coordinator = coordinator;
    this.#catalog = new TopicCatalog(kafka, cluster, { partitions: 1, replicationFactor: -1 });
    this.#log = new LogReader(cluster);
    this.#groupId = groupId;
    this.#topics = topics;
  }

  /** Connects. After a failure of any method it is of no more use: close it and open another, which finds the brokers of that moment. */
  static async open(options: GroupOptions): Promise<GroupProgress> {
    const cluster = await openCluster(options.kafka);
    try {
      const group = { groupId: options.groupId, coordinatorType: GROUP_COORDINATOR };
      return new GroupProgress(options, cluster, await cluster.findGroupCoordinator(group));
    } catch (error) {
      await cluster.disconnect().catch(() => {});
      throw error;
    }
  }

  /**
   * The topics' partitions up to their ends of now: everything that a producer was told is committed stands below. A topic that does not
   * exist holds nothing and is left out.
   *
   * The ends are high watermarks. Last stable offsets would be nearer but too early: Kafka answers EndTxn when the outcome is decided, and
   * only then marks it in the partitions, so that for a moment the last stable offset still stands before what was committed.
   */
  async ends(): Promise<PartitionRange[]> {
    const ranges: PartitionRange[] = [];
    for (const topic of this.#topics) {
      if ((this.#catalog.known(topic) ?? (await this.#catalog.lookUp(topic))) === null) continue;
      ranges.push(...(await this.#log.ranges(topic)));
    }
    return ranges;
  }

  async committed(): Promise<CommittedOffsets> {
    const { responses } = await this.#coordinator.offsetFetch({ groupId: this.#groupId, topics: [] });
    const offsets = new Map<string, bigint>();
    for (const { topic, partitions } of responses) {
      for (const { partition, offset } of partitions) offsets.set(`${topic}/${partition}`, BigInt(offset));
    }
    return offsets;
  }

  /** Whether the group, having committed that, has no record left to read below the ends. */
  async hasReached(ends: readonly PartitionRange[], committed: CommittedOffsets): Promise<boolean> {
    for (const range of ends) {
      const offset = committed.get(`${range.topic}/${range.partition}`) ?? -1n; // -1: it has committed nothing yet
      const from = offset > range.from ? offset : range.from;
      if (from < range.to && !(await this.#isEmpty({ ...range, from }))) return false;
    }
    return true;
  }

  close(): Promise<void> {
    return this.#cluster.disconnect();
  }

  /** A group commits the offset behind its last record, and the marks of transactions that follow are no records. */
  async #isEmpty(range: PartitionRange): Promise<boolean> {
    const partition = `${range.topic}/${range.partition}`;
    const known = this.#looks.get(partition);
    if (known !== undefined && known.from <= range.from && range.from <= known.to) {
      if (range.to <= known.to) return true;
      if (known.recordFollows) return false;
    }
    const record = await this.#log.firstRecord(range);
    if (record === null) return false;
    this.#looks.set(partition, { from: range.from, to: record, recordFollows: record < range.to });
    return record === range.to;
  }
}
