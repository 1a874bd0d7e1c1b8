/**
 * The window on kafkajs's inner layer, and the only file that looks through it. Ferry needs three things that its public API does not
 * give: reading a log from an offset to an offset without a consumer group, a transactional producer whose every step is ours (its own
 * loses records with retries on, see docs/adr/0005), and topic ids. kafkajs is pinned exactly; test/unit/kafka/protocol.test.ts fails
 * if these modules change their shape.
 */
import { createRequire } from 'node:module';
import { logLevel } from 'kafkajs';
import { clientSettings, type KafkaOptions } from './client.ts';

const require = createRequire(import.meta.url);

export interface PartitionMetadata {
  readonly partitionId: number;
  readonly leader: number;
}

export interface FetchedMessage {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, Buffer | Buffer[] | undefined>;
  readonly isControlRecord: boolean;
  readonly batchContext: {
    readonly producerId: string;
    readonly inTransaction: boolean;
    readonly firstOffset: string;
    readonly lastOffsetDelta: number;
  };
}

export interface FetchedPartition {
  readonly partition: number;
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  readonly abortedTransactions: ReadonlyArray<{ readonly producerId: string; readonly firstOffset: string }> | null;
  readonly messages: readonly FetchedMessage[];
}

export interface TopicPartitions {
  readonly topic: string;
  readonly partitions: readonly number[];
}

/** A request that Ferry encodes itself; `payload` is everything after the request header. */
export interface RawRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly apiName: string;
  readonly payload: Buffer;
}

export interface Broker {
  readonly nodeId: number | string;
  initProducerId(request: {
    transactionalId: string;
    transactionTimeout: number;
  }): Promise<{ producerId: string; producerEpoch: number }>;
  addPartitionsToTxn(request: {
    transactionalId: string;
    producerId: string;
    producerEpoch: number;
    topics: TopicPartitions[];
  }): Promise<unknown>;
  endTxn(request: {
    transactionalId: string;
    producerId: string;
    producerEpoch: number;
    transactionResult: boolean;
  }): Promise<unknown>;
  fetch(request: {
    isolationLevel: number;
    maxWaitTime: number;
    minBytes: number;
    maxBytes: number;
    topics: ReadonlyArray<{
      topic: string;
      partitions: ReadonlyArray<{ partition: number; fetchOffset: string; maxBytes: number }>;
    }>;
  }): Promise<{ responses: ReadonlyArray<{ topicName: string; partitions: readonly FetchedPartition[] }> }>;
  listOffsets(request: {
    isolationLevel: number;
    topics: ReadonlyArray<{ topic: string; partitions: ReadonlyArray<{ partition: number; timestamp: number }> }>;
  }): Promise<{
    responses: ReadonlyArray<{ topic: string; partitions: ReadonlyArray<{ partition: number; offset: string }> }>;
  }>;
  /** Of all topics where none is named. */
  offsetFetch(request: { groupId: string; topics: readonly TopicPartitions[] }): Promise<{
    responses: ReadonlyArray<{ topic: string; partitions: ReadonlyArray<{ partition: number; offset: string }> }>;
  }>;
  readonly connectionPool: {
    send(call: {
      request: object;
      response: { decode(raw: Buffer): Promise<unknown>; parse(data: unknown): Promise<unknown> };
    }): Promise<unknown>;
  };
}

export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  refreshMetadata(): Promise<void>;
  /** Of all topics. */
  metadata(): Promise<{ topicMetadata: ReadonlyArray<{ topic: string }> }>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  findTopicPartitionMetadata(topic: string): PartitionMetadata[];
  findBroker(node: { nodeId: number | string }): Promise<Broker>;
  findGroupCoordinator(group: { groupId: string; coordinatorType: number }): Promise<Broker>;
  findControllerBroker(): Promise<Broker>;
  getNodeIds(): string[];
}

const ClusterClass = require('kafkajs/src/cluster') as new (settings: object) => Cluster;
const { createLogger } = require('kafkajs/src/loggers') as { createLogger(settings: object): object };
const EncoderClass = require('kafkajs/src/protocol/encoder') as new (
  bytes: number,
) => { writeBuffer(buffer: Buffer): object };
const defaultSocketFactory = require('kafkajs/src/network/socketFactory') as () => object;
const { failure, createErrorFromCode } = require('kafkajs/src/protocol/error') as {
  failure(code: number): boolean;
  createErrorFromCode(code: number): Error;
};

export const GROUP_COORDINATOR = 0;
export const TRANSACTION_COORDINATOR = 1;
export const READ_UNCOMMITTED = 0;
export const READ_COMMITTED = 1;

/** A connected cluster with its brokers known; whoever opened it disconnects it. */
export async function openCluster(options: KafkaOptions): Promise<Cluster> {
  const settings = clientSettings(options);
  const cluster = new ClusterClass({
    ...settings,
    logger: createLogger({ level: logLevel.WARN, logCreator: settings.logCreator }),
    socketFactory: defaultSocketFactory(),
    enforceRequestTimeout: true,
    metadataMaxAge: 300_000,
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
  });
  try {
    await cluster.connect();
    await cluster.refreshMetadata();
  } catch (error) {
    await cluster.disconnect().catch(() => {});
    throw error;
  }
  return cluster;
}

/** Sends a request of our own encoding; `decode` gets the response after its correlation id. */
export async function sendRaw<T>(broker: Broker, request: RawRequest, decode: (raw: Buffer) => T): Promise<T> {
  const answer = await broker.connectionPool.send({
    request: {
      apiKey: request.apiKey,
      apiVersion: request.apiVersion,
      apiName: request.apiName,
      encode: async () => new EncoderClass(request.payload.length).writeBuffer(request.payload),
    },
    // kafkajs looks for a throttle time on what `decode` gives, so that is always an object
    response: { decode: async (raw) => ({ decoded: decode(raw) }), parse: async (data) => data },
  });
  return (answer as { decoded: T }).decoded;
}

/** Throws kafkajs's error for a Kafka error code other than 0. */
export function throwOnErrorCode(code: number): void {
  if (failure(code)) throw createErrorFromCode(code);
}

/** Kafka's name of an error code other than 0, as `kafkaErrorType` gives it. */
export function errorTypeOf(code: number): string | null {
  return kafkaErrorType(createErrorFromCode(code));
}

/**
 * Kafka's name of what went wrong (`CONCURRENT_TRANSACTIONS`), looking through kafkajs's wrappers; of several that it wraps at once the
 * first; null for anything else.
 */
export function kafkaErrorType(thrown: unknown): string | null {
  for (let error: unknown = thrown, depth = 0; error instanceof Error && depth < 5; depth++) {
    if ('type' in error && typeof error.type === 'string') return error.type;
    const several = 'errors' in error && Array.isArray(error.errors) ? error.errors : [];
    error = 'originalError' in error ? error.originalError : (several[0] ?? error.cause);
  }
  return null;
}
