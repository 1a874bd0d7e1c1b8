/**
 * Reads topics as logs, from an offset to an offset, without a consumer group: for the checkpoint, for counting, for `./ferry tail`.
 * Aborted records are left out as the Java client does it (org.apache.kafka.clients.consumer.internals.CompletedFetch); kafkajs's own
 * filter takes up one aborted transaction per record and so misses some where a fetch starts inside two of them.
 */
import { DeadlineError, sleep } from '../kernel/deadline.ts';
import {
  type Cluster,
  type FetchedMessage,
  type FetchedPartition,
  kafkaErrorType,
  READ_COMMITTED,
  READ_UNCOMMITTED,
} from './protocol.ts';

export interface LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly timestampMs: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

export interface PartitionRange {
  readonly topic: string;
  readonly partition: number;
  /** First offset to read. */
  readonly from: bigint;
  /** Where to stop: the offset after the last one wanted. */
  readonly to: bigint;
}

const FETCH_MAX_BYTES = 4_194_304;
const FETCH_WAIT_MS = 250;
/** For a look at what comes next: a few batches; Kafka gives at least one, however large. */
const LOOK_MAX_BYTES = 16_384;
const LATEST = -1;
const EARLIEST = -2;
/** What a broker says that does not lead the partition: not any more, or not yet, since metadata names a leader before it knows that it is one. */
const LEADER_MOVES = new Set(['NOT_LEADER_FOR_PARTITION', 'LEADER_NOT_AVAILABLE', 'REPLICA_NOT_AVAILABLE']);
const LEADER_DEADLINE_MS = 10_000;
const LEADER_RETRY_MS = 50;

export class LogReader {
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Partition numbers in order; rejects if the topic does not exist. */
  async partitions(topic: string): Promise<number[]> {
    await this.#cluster.addMultipleTargetTopics([topic]);
    return this.#cluster
      .findTopicPartitionMetadata(topic)
      .map(({ partitionId }) => partitionId)
      .sort((a, b) => a - b);
  }

  /**
   * The whole topic as of now. `until` is the end: the high watermark, below which open transactions must be waited for, or the last
   * stable offset, below which everything is decided.
   */
  async ranges(topic: string, until: 'high-watermark' | 'last-stable' = 'high-watermark'): Promise<PartitionRange[]> {
    const partitions = await this.partitions(topic);
    const [from, to] = await Promise.all([
      this.#offsets(topic, partitions, EARLIEST, READ_UNCOMMITTED),
      this.#offsets(topic, partitions, LATEST, until === 'high-watermark' ? READ_UNCOMMITTED : READ_COMMITTED),
    ]);
    return partitions.map((partition) => {
      const range = { topic, partition, from: from.get(partition), to: to.get(partition) };
      if (range.from === undefined || range.to === undefined)
        throw new Error(`the broker's answer says nothing of ${topic}/${partition}`); // taken for 0 it would look like an empty log
      return { ...range, from: range.from, to: range.to };
    });
  }

  /** Offset of the partition's first record with this timestamp or a later one; null if it has none. By the broker's index of times. */
  async offsetSince(topic: string, partition: number, timestampMs: number): Promise<bigint | null> {
    const offset = (await this.#offsets(topic, [partition], timestampMs, READ_COMMITTED)).get(partition);
    return offset === undefined || offset < 0n ? null : offset;
  }

  /**
   * The committed records of a range, in order. Waits for transactions that are still open below `to`; rejects with a DeadlineError when
   * nothing more could be read for `timeoutMs`: never a short read that looks whole.
   */
  async *read(range: PartitionRange, timeoutMs: number): AsyncGenerator<LogRecord> {
    let offset = range.from;
    let progressAt = performance.now();
    while (offset < range.to) {
      const fetched = await this.#fetch(range.topic, range.partition, offset);
      const next = nextOffset(fetched, offset);
      for (const message of committed(fetched, offset)) {
        if (BigInt(message.offset) >= range.to) return;
        yield toLogRecord(range.topic, range.partition, message);
      }
      if (next > offset) progressAt = performance.now();
      else if (performance.now() - progressAt > timeoutMs) {
        throw new DeadlineError(
          `reading ${range.topic}/${range.partition} from ${offset} to ${range.to} (an open transaction?)`,
          timeoutMs,
        );
      }
      offset = next;
    }
  }

  /**
   * Offset of the first committed record of a range; `to` if it has none: a range may hold nothing but the marks of transactions. Null
   * while that cannot be said, because a transaction is open in it. Waits for nothing.
   */
  async firstRecord({ topic, partition, from, to }: PartitionRange): Promise<bigint | null> {
    let offset = from;
    while (offset < to) {
      const fetched = await this.#fetch(topic, partition, offset, { waitMs: 0, maxBytes: LOOK_MAX_BYTES });
      const [first] = committed(fetched, offset);
      if (first !== undefined) return BigInt(first.offset) < to ? BigInt(first.offset) : to;
      const next = nextOffset(fetched, offset);
      if (next === offset) return null;
      offset = next;
    }
    return to;
  }

  /** The committed records of all partitions of the topics, one partition after the other, up to the high watermarks of now. */
  async *readAll(topics: readonly string[], timeoutMs: number): AsyncGenerator<LogRecord> {
    for (const topic of topics) {
      for (const range of await this.ranges(topic)) yield* this.read(range, timeoutMs);
    }
  }

  /** Committed records of all partitions as they arrive, until the signal fires. */
  async *follow(topics: readonly string[], fromBeginning: boolean, signal: AbortSignal): AsyncGenerator<LogRecord> {
    const cursors: Array<{ topic: string; partition: number; offset: bigint }> = [];
    for (const topic of topics) {
      for (const range of await this.ranges(topic))
        cursors.push({ ...range, offset: fromBeginning ? range.from : range.to });
    }
    while (!signal.aborted) {
      let progressed = false;
      for (const cursor of cursors) {
        if (signal.aborted) return;
        const fetched = await this.#fetch(cursor.topic, cursor.partition, cursor.offset, { waitMs: 0 });
        for (const message of committed(fetched, cursor.offset))
          yield toLogRecord(cursor.topic, cursor.partition, message);
        const next = nextOffset(fetched, cursor.offset);
        progressed ||= next > cursor.offset;
        cursor.offset = next;
      }
      if (!progressed) await sleep(100, signal);
    }
  }

  /** Asks anew, by fresh metadata, while leaders move. */
  async #askLeaders<T>(ask: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + LEADER_DEADLINE_MS;
    for (let stale = false; ; stale = true) {
      try {
        if (stale) await this.#cluster.refreshMetadata();
        return await ask();
      } catch (error) {
        if (!LEADER_MOVES.has(kafkaErrorType(error) ?? '') || performance.now() > deadline) throw error;
        await sleep(LEADER_RETRY_MS);
      }
    }
  }

  #offsets(
    topic: string,
    partitions: readonly number[],
    timestamp: number,
    isolationLevel: number,
  ): Promise<Map<number, bigint>> {
    return this.#askLeaders(async () => {
      const leaders = new Map(
        this.#cluster.findTopicPartitionMetadata(topic).map((meta) => [meta.partitionId, meta.leader]),
      );
      const offsets = new Map<number, bigint>();
      for (const [nodeId, led] of Map.groupBy(partitions, (partition) => leaders.get(partition) ?? -1)) {
        const broker = await this.#cluster.findBroker({ nodeId });
        const answer = await broker.listOffsets({
          isolationLevel,
          topics: [{ topic, partitions: led.map((partition) => ({ partition, timestamp })) }],
        });
        for (const { partitions: answered } of answer.responses) {
          for (const { partition, offset } of answered) offsets.set(partition, BigInt(offset));
        }
      }
      return offsets;
    });
  }

  async #fetch(
    topic: string,
    partition: number,
    offset: bigint,
    { waitMs = FETCH_WAIT_MS, maxBytes = FETCH_MAX_BYTES } = {},
  ): Promise<FetchedPartition> {
    const answer = await this.#askLeaders(async () => {
      const meta = this.#cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition);
      if (meta === undefined) throw new Error(`topic ${topic} has no partition ${partition}`);
      const broker = await this.#cluster.findBroker({ nodeId: meta.leader });
      return broker.fetch({
        isolationLevel: READ_COMMITTED,
        maxWaitTime: waitMs,
        minBytes: 1,
        maxBytes,
        topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes }] }],
      });
    });
    const fetched = answer.responses[0]?.partitions[0];
    if (fetched === undefined) throw new Error(`the broker's answer says nothing of ${topic}/${partition}`);
    return fetched;
  }
}

/**
 * Where to fetch next. A batch may end in offsets that compaction removed: its last offset counts, not its last record's, else a
 * partition whose end was compacted away would never be finished.
 */
function nextOffset(fetched: FetchedPartition, offset: bigint): bigint {
  const batch = fetched.messages.at(-1)?.batchContext;
  if (batch === undefined) return offset;
  const next = BigInt(batch.firstOffset) + BigInt(batch.lastOffsetDelta) + 1n;
  return next > offset ? next : offset;
}

/** Records that a read_committed consumer gets: no control records, none of aborted transactions. */
export function committed(
  fetched: Pick<FetchedPartition, 'messages' | 'abortedTransactions'>,
  from: bigint,
): FetchedMessage[] {
  const pending = [...(fetched.abortedTransactions ?? [])].sort((a, b) =>
    BigInt(a.firstOffset) < BigInt(b.firstOffset) ? -1 : 1,
  );
  const aborted = new Set<string>();
  return fetched.messages.filter((message) => {
    const offset = BigInt(message.offset);
    for (let next = pending[0]; next !== undefined && BigInt(next.firstOffset) <= offset; next = pending[0]) {
      aborted.add(next.producerId);
      pending.shift();
    }
    const producerId = String(message.batchContext.producerId);
    if (message.isControlRecord) {
      aborted.delete(producerId); // its transaction ends here, however it ends
      return false;
    }
    return offset >= from && !(message.batchContext.inTransaction && aborted.has(producerId));
  });
}

/** A message as kafkajs hands it out, at either of its layers. */
interface Message extends Pick<FetchedMessage, 'offset' | 'timestamp' | 'key' | 'value'> {
  /** A value may be null, whatever kafkajs's types say: Kafka allows it. */
  readonly headers?: Readonly<Record<string, Buffer | string | (Buffer | string | null)[] | null | undefined>>;
}

export function toLogRecord(topic: string, partition: number, message: Message): LogRecord {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== undefined && last !== null) headers[name] = last.toString();
  }
  const { offset, timestamp, key, value } = message;
  return { topic, partition, offset: BigInt(offset), timestampMs: Number(timestamp), key, value, headers };
}
