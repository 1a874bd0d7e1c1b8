/**
 * A transactional producer (KIP-98) of which every step is explicit: InitProducerId, then per transaction AddPartitionsToTxn, Produce
 * to each leader, EndTxn. It keeps no retries: after any error the outcome is unknown, the object is dead, and its owner makes a new one
 * and reads the checkpoint again. The single exception is AddPartitionsToTxn answering CONCURRENT_TRANSACTIONS: the broker is still
 * writing the last transaction's markers, nothing of this one exists yet, so asking again is safe; kafkajs waits 300 ms there.
 */
import type { OutgoingRecord } from '../events/record.ts';
import { sleep } from '../kernel/deadline.ts';
import { encodeProduceRequest, type PartitionBatch, sendProduce } from './produce-request.ts';
import {
  type Broker,
  type Cluster,
  kafkaErrorType,
  type TopicPartitions,
  TRANSACTION_COORDINATOR,
} from './protocol.ts';
import { encodeRecordBatch, maxRecordBytes } from './record-batch.ts';

/** Half of what fits: sequence numbers are 32 bits and kafkajs-era brokers disagreed about the wrap, so it is never reached. */
const MAX_SEQUENCE = 1_000_000_000;

/** Below Kafka's default max.message.bytes, which limits a record batch (1 MiB and 12 bytes). */
export const MAX_BATCH_BYTES = 950_000;

const CONCURRENT_DEADLINE_MS = 30_000;
/** InitProducerId may meet a transaction of the producer that it fences, or a coordinator that is still loading. */
const INIT_RETRYABLE = new Set([
  'CONCURRENT_TRANSACTIONS',
  'NOT_COORDINATOR_FOR_GROUP',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
]);

export interface TransactionalProducerOptions {
  readonly transactionalId: string;
  /** After this long without EndTxn the coordinator aborts the transaction. */
  readonly transactionTimeoutMs: number;
  /** Awaited before each InitProducerId, which is not sent if this rejects: whoever may no longer fence must not. */
  readonly prove: () => Promise<unknown>;
}

export class TransactionalProducer {
  readonly #cluster: Cluster;
  readonly #coordinator: Broker;
  readonly #transactionalId: string;
  readonly #producerId: string;
  readonly #producerEpoch: number;
  readonly #sequences = new Map<string, number>();
  #written = 0;
  #broken = false;

  private constructor(
    cluster: Cluster,
    coordinator: Broker,
    transactionalId: string,
    producerId: string,
    producerEpoch: number,
  ) {
    this.#cluster = cluster;
    this.#coordinator = coordinator;
    this.#transactionalId = transactionalId;
    this.#producerId = producerId;
    this.#producerEpoch = producerEpoch;
  }

  /** InitProducerId: fences every older producer of this transactional id and finishes what it left open. */
  static async open(cluster: Cluster, options: TransactionalProducerOptions): Promise<TransactionalProducer> {
    const { transactionalId, transactionTimeoutMs, prove } = options;
    const deadline = performance.now() + CONCURRENT_DEADLINE_MS;
    for (;;) {
      try {
        const coordinator = await cluster.findGroupCoordinator({
          groupId: transactionalId,
          coordinatorType: TRANSACTION_COORDINATOR,
        });
        await prove();
        const { producerId, producerEpoch } = await coordinator.initProducerId({
          transactionalId,
          transactionTimeout: transactionTimeoutMs,
        });
        return new TransactionalProducer(cluster, coordinator, transactionalId, String(producerId), producerEpoch);
      } catch (error) {
        if (!INIT_RETRYABLE.has(kafkaErrorType(error) ?? '') || performance.now() > deadline) throw error;
        await sleep(20);
      }
    }
  }

  /** True when sequence numbers are used up so far that a new producer should take over; checked between transactions. */
  get exhausted(): boolean {
    return this.#written > MAX_SEQUENCE;
  }

  /**
   * Commits `records` as one Kafka transaction, each partition's in the given order. Resolves when the commit is durable. Any
   * rejection leaves the outcome unknown and this producer unusable. `onStage` is told when records were sent and before EndTxn.
   */
  async commit(records: readonly OutgoingRecord[], onStage: (stage: 'sent') => void = () => {}): Promise<void> {
    if (this.#broken) throw new Error('this producer failed before and must be replaced');
    if (records.length === 0) throw new RangeError('an empty transaction cannot be committed');
    this.#broken = true; // until proven otherwise: a throw anywhere below leaves it so
    const byPartition = groupByPartition(records);
    await this.#cluster.addMultipleTargetTopics([...byPartition.keys()]);
    await this.#addPartitions(byPartition);
    await this.#produce(byPartition);
    onStage('sent');
    await this.#coordinator.endTxn({ ...this.#identity(), transactionResult: true });
    this.#written += records.length;
    this.#broken = false;
  }

  #identity() {
    return { transactionalId: this.#transactionalId, producerId: this.#producerId, producerEpoch: this.#producerEpoch };
  }

  async #addPartitions(byPartition: ReadonlyMap<string, ReadonlyMap<number, unknown>>): Promise<void> {
    const topics: TopicPartitions[] = [...byPartition].map(([topic, partitions]) => ({
      topic,
      partitions: [...partitions.keys()],
    }));
    const deadline = performance.now() + CONCURRENT_DEADLINE_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#coordinator.addPartitionsToTxn({ ...this.#identity(), topics });
        return;
      } catch (error) {
        if (kafkaErrorType(error) !== 'CONCURRENT_TRANSACTIONS' || performance.now() > deadline) throw error;
        await sleep(attempt < 20 ? 1 : 5);
      }
    }
  }

  /** A broker takes one record batch per partition and request, so a partition with more than fits is sent in rounds, in order. */
  async #produce(byPartition: ReadonlyMap<string, ReadonlyMap<number, readonly OutgoingRecord[]>>): Promise<void> {
    const timestampMs = Date.now();
    for (let round = this.#plan(byPartition); round.length > 0; ) {
      const byLeader = Map.groupBy(round, (lane) => lane.leader);
      await Promise.all([...byLeader].map(([leader, lanes]) => this.#produceTo(leader, lanes, timestampMs)));
      round = round.filter((lane) => lane.sent < lane.records.length);
    }
  }

  async #produceTo(leader: number, lanes: readonly Lane[], timestampMs: number): Promise<void> {
    const batches: PartitionBatch[] = lanes.map((lane) => {
      const chunk = takeChunk(lane);
      const key = `${lane.topic}/${lane.partition}`;
      const firstSequence = this.#sequences.get(key) ?? 0;
      this.#sequences.set(key, firstSequence + chunk.length);
      const producer = { producerId: BigInt(this.#producerId), producerEpoch: this.#producerEpoch, firstSequence };
      return { topic: lane.topic, partition: lane.partition, bytes: encodeRecordBatch(chunk, producer, timestampMs) };
    });
    const broker = await this.#cluster.findBroker({ nodeId: leader });
    await sendProduce(broker, encodeProduceRequest(this.#transactionalId, batches), batches);
  }

  #plan(byPartition: ReadonlyMap<string, ReadonlyMap<number, readonly OutgoingRecord[]>>): Lane[] {
    const lanes: Lane[] = [];
    for (const [topic, partitions] of byPartition) {
      const leaders = new Map(
        this.#cluster.findTopicPartitionMetadata(topic).map((meta) => [meta.partitionId, meta.leader]),
      );
      for (const [partition, records] of partitions) {
        const leader = leaders.get(partition);
        if (leader === undefined) throw new Error(`topic ${topic} has no partition ${partition}`);
        lanes.push({ topic, partition, leader, records, sent: 0 });
      }
    }
    return lanes;
  }
}

/** What one transaction sends to one partition. */
interface Lane {
  readonly topic: string;
  readonly partition: number;
  readonly leader: number;
  readonly records: readonly OutgoingRecord[];
  sent: number;
}

function takeChunk(lane: Lane): OutgoingRecord[] {
  const first = lane.sent;
  let bytes = 0;
  for (; lane.sent < lane.records.length; lane.sent++) {
    const record = lane.records[lane.sent];
    if (record === undefined) break;
    bytes += maxRecordBytes(record);
    if (bytes > MAX_BATCH_BYTES && lane.sent > first) break;
  }
  return lane.records.slice(first, lane.sent);
}

function groupByPartition(records: readonly OutgoingRecord[]): Map<string, Map<number, OutgoingRecord[]>> {
  const grouped = new Map<string, Map<number, OutgoingRecord[]>>();
  for (const record of records) {
    let partitions = grouped.get(record.topic);
    if (partitions === undefined) {
      partitions = new Map();
      grouped.set(record.topic, partitions);
    }
    const batch = partitions.get(record.partition);
    if (batch === undefined) partitions.set(record.partition, [record]);
    else batch.push(record);
  }
  return grouped;
}
