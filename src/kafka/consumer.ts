/**
 * A member of a consumer group, under read_committed: hands over records in their partition's order, and commits an offset only after the
 * work on what is below it is done. Whatever ends kafkajs's consumer (a broker gone, a topic not made yet, a rebalance that failed), a fresh
 * one takes its place after a pause.
 *
 * Under read_committed kafkajs can, rarely, let records of an aborted transaction through (see log-reader.ts). Those that Ferry's relay
 * aborted it publishes again under the same event ids, so whoever applies each id once is not harmed.
 */
import type { Consumer, EachBatchPayload } from 'kafkajs';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { createKafka, type KafkaOptions } from './client.ts';
import { type LogRecord, toLogRecord } from './log-reader.ts';

export interface GroupConsumerOptions {
  readonly kafka: KafkaOptions;
  readonly groupId: string;
  readonly topics: readonly string[];
  /** Most records handed over at once; default 500. */
  readonly maxRecords?: number;
  /** Longest pause between attempts. */
  readonly backoffMaxMs: number;
  readonly metrics: Pick<Metrics, 'recordsLagMax' | 'reconnectsTotal'>;
  /**
   * Does the work on records of one partition, in order, and resolves when it is done for good: their offset is committed then. While it
   * rejects it is called again with the same records, after a pause: it must bear that, and give up by itself what cannot succeed.
   */
  readonly handle: (records: readonly LogRecord[]) => Promise<void>;
}

const SESSION_TIMEOUT_MS = 10_000;
const HEARTBEAT_INTERVAL_MS = 2_000;
const FETCH_WAIT_MS = 250;
const BACKOFF_BASE_MS = 100;

export class GroupConsumer {
  readonly #options: GroupConsumerOptions;
  readonly #stopping = new AbortController();
  readonly #lags = new Map<string, number>();
  #running: Promise<void> | undefined;
  /** Attempts since the last record was handled: the pause grows with it. */
  #attempt = 0;

  constructor(options: GroupConsumerOptions) {
    this.#options = options;
  }

  /** Begins; Kafka need not be there yet. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Finishes what is being handled, hands its partitions back and leaves the group. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { kafka, groupId, topics, metrics, backoffMaxMs } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#consumeUntilItEnds(signal);
      } catch (error) {
        if (signal.aborted) break;
        kafka.logger.warn(
          { err: error, groupId, topics, attempt: this.#attempt },
          'the consumer ended and is begun anew',
        );
        metrics.reconnectsTotal.add(1, { part: 'kafka' });
        await sleep(backoffMs(this.#attempt++, BACKOFF_BASE_MS, backoffMaxMs), signal);
      }
    }
  }

  /** Resolves when it was stopped, rejects when kafkajs gave up. */
  async #consumeUntilItEnds(signal: AbortSignal): Promise<void> {
    const { kafka, groupId, topics } = this.#options;
    const consumer = createKafka(kafka).consumer({
      groupId,
      sessionTimeout: SESSION_TIMEOUT_MS,
      heartbeatInterval: HEARTBEAT_INTERVAL_MS,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      readUncommitted: false,
      allowAutoTopicCreation: false,
      retry: { restartOnFailure: async () => false }, // we begin anew, with a fresh client
    });
    const ended = Promise.withResolvers<void>();
    consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error));
    const stop = () => ended.resolve();
    signal.addEventListener('abort', stop, { once: true });
    ended.promise.catch(() => {}); // a crash during the start is met below
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [...topics], fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (payload) => this.#handleBatch(consumer, payload),
      });
      await ended.promise;
    } finally {
      signal.removeEventListener('abort', stop);
      await consumer.disconnect().catch(() => {});
    }
  }

  async #handleBatch(consumer: Consumer, payload: EachBatchPayload): Promise<void> {
    const { batch, heartbeat, resolveOffset } = payload;
    const { topic, partition } = batch;
    const maxRecords = this.#options.maxRecords ?? 500;
    for (let at = 0; at < batch.messages.length; at += maxRecords) {
      const records = batch.messages
        .slice(at, at + maxRecords)
        .map((message) => toLogRecord(topic, partition, message));
      if (!(await this.#handleUntilDone(payload, records))) return;
      this.#attempt = 0;
      const last = records.at(-1);
      if (last === undefined) return;
      resolveOffset(String(last.offset));
      await consumer.commitOffsets([{ topic, partition, offset: String(last.offset + 1n) }]);
      this.#recordLag(topic, partition, BigInt(batch.highWatermark) - 1n - last.offset);
      await heartbeat();
    }
    this.#recordLag(topic, partition, BigInt(batch.offsetLag())); // the commit marker behind the last record counts as read
  }

  /** False when the partition is no longer ours or we are to stop: then nothing is committed and another member begins there. */
  async #handleUntilDone(
    { isRunning, isStale, heartbeat, batch }: EachBatchPayload,
    records: readonly LogRecord[],
  ): Promise<boolean> {
    const { kafka, groupId, handle, backoffMaxMs } = this.#options;
    for (let attempt = 0; ; attempt++) {
      if (!isRunning() || isStale() || this.#stopping.signal.aborted) return false;
      try {
        await handle(records);
        return true;
      } catch (error) {
        const place = { groupId, topic: batch.topic, partition: batch.partition, offset: String(records[0]?.offset) };
        kafka.logger.warn(
          { err: coerceError(error), ...place, attempt },
          'records were not handled; they are tried again',
        );
      }
      // Below the session's time-out, so that the wait itself does not cost the partition; the heartbeat throws when it is lost.
      await sleep(
        Math.min(HEARTBEAT_INTERVAL_MS, backoffMs(attempt, BACKOFF_BASE_MS, backoffMaxMs)),
        this.#stopping.signal,
      );
      await heartbeat();
    }
  }

  #recordLag(topic: string, partition: number, lag: bigint): void {
    this.#lags.set(`${topic}/${partition}`, Number(lag));
    this.#options.metrics.recordsLagMax.record(Math.max(...this.#lags.values()));
  }
}
