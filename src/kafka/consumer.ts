/**
 * A member of a consumer group, under read_committed: hands records over in their partition's order, and commits whatever offsets it is told
 * may be. Whatever ends kafkajs's consumer (a broker gone, a topic not made yet, a rebalance that failed), a fresh one takes its place after a
 * pause.
 *
 * Under read_committed kafkajs can, rarely, let records of an aborted transaction through (see log-reader.ts). Those that Ferry's relay
 * aborted it publishes again under the same event ids, so whoever applies each id once is not harmed.
 */
import type { Consumer, EachBatchHandler, EachBatchPayload } from 'kafkajs';
import { backoffMs, sleep, withDeadline } from '../kernel/deadline.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { createKafka, type KafkaOptions } from './client.ts';
import { type LogRecord, toLogRecord } from './log-reader.ts';
import { Membership } from './membership.ts';
import { Sockets } from './sockets.ts';
import { ensureTopics, type TopicSettings } from './topic-catalog.ts';

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

/** Who works on the records, at their own pace. Nothing here throws. */
export interface RecordIntake {
  /** The group has given this member exactly these partitions, each from its committed offset on: what it had before is void. */
  assigned(partitions: readonly TopicPartition[]): void;
  /** Records of one partition, in order, behind those offered before. */
  offer(records: readonly LogRecord[]): void;
  /** Resolves when there is room for more, or after `timeoutMs`; tells whether there is. */
  waitForRoom(timeoutMs: number): Promise<boolean>;
  /** For each partition with records since the assignment: the first offset that is not done with. */
  committable(): ReadonlyArray<TopicPartition & { readonly offset: bigint }>;
}

export interface GroupConsumerOptions {
  readonly kafka: KafkaOptions;
  readonly groupId: string;
  readonly topics: readonly string[];
  /** With these a topic that is missing is made; left out: it is waited for. */
  readonly topicSettings?: TopicSettings;
  /** How long this member may be silent before the group gives its partitions to others. */
  readonly sessionTimeoutMs: number;
  /** How often what is done is committed. */
  readonly commitIntervalMs: number;
  /** Longest pause between attempts. */
  readonly backoffMaxMs: number;
  readonly metrics: Pick<Metrics, 'recordsLagMax' | 'reconnectsTotal'>;
  readonly intake: RecordIntake;
}

const FETCH_WAIT_MS = 250;
const ROOM_WAIT_MS = 500;
const BACKOFF_BASE_MS = 100;
/** A commit that hangs would hold up all that come after it; longer than kafkajs waits for an answer. */
const COMMIT_TIMEOUT_MS = 20_000;
/** How long a stop waits for a group that is just being joined, for the last commit, and for the brokers to take the farewell. */
const LEAVE_TIMEOUT_MS = 3_000;

type CommitOffsets = EachBatchPayload['commitOffsetsIfNecessary'];

export class GroupConsumer {
  readonly #options: GroupConsumerOptions;
  readonly #stopping = new AbortController();
  readonly #ends = new Map<string, bigint>();
  readonly #committed = new Map<string, bigint>();
  #commitOffsets: CommitOffsets | null = null;
  #committing: Promise<void> = Promise.resolve();
  #running: Promise<void> | undefined;
  /** Attempts since records last came: the pause grows with it. */
  #attempt = 0;

  constructor(options: GroupConsumerOptions) {
    this.#options = options;
  }

  /** Begins; Kafka need not be there yet. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Takes no more records, commits what is done, hands its partitions back and leaves the group. */
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

  /** Resolves when it was stopped, rejects when kafkajs gave up or is no member any more. */
  async #consumeUntilItEnds(signal: AbortSignal): Promise<void> {
    const { kafka, groupId, sessionTimeoutMs, commitIntervalMs } = this.#options;
    const rebalanceTimeoutMs = 2 * sessionTimeoutMs; // also how long kafkajs waits for a coordinator that hangs while the group is joined
    const sockets = new Sockets();
    const consumer = createKafka(kafka, sockets).consumer({
      groupId,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: rebalanceTimeoutMs,
      heartbeatInterval: Math.floor(sessionTimeoutMs / 6), // a rebalance is noticed by it
      maxWaitTimeInMs: FETCH_WAIT_MS,
      readUncommitted: false,
      allowAutoTopicCreation: false,
      retry: { restartOnFailure: async () => false }, // we begin anew, with a fresh client
    });
    const ended = Promise.withResolvers<void>();
    const fetches = new Fetches(consumer);
    // A member is silent for longer than its session only while the others are waited for in a rebalance.
    const membership = new Membership(consumer, sessionTimeoutMs + rebalanceTimeoutMs, () =>
      ended.reject(new Error('the group has not confirmed this member for longer than it keeps one')),
    );
    let usable = true;
    consumer.on(consumer.events.CRASH, ({ payload }) => ended.reject(payload.error));
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      usable = !fetches.mayOutlive();
      if (usable) this.#joined(payload.memberAssignment);
      else ended.reject(new Error('the group was joined again while records of the former assignment were under way'));
    });
    const stop = () => ended.resolve();
    signal.addEventListener('abort', stop, { once: true });
    ended.promise.catch(() => {}); // a crash during the start is met below
    const committing = setInterval(() => this.#commit(), commitIntervalMs);
    try {
      const eachBatch = async (payload: EachBatchPayload) => {
        if (usable) await this.#handleBatch(payload);
      };
      await Promise.race([this.#begin(consumer, eachBatch, signal), someTimeAfter(signal, LEAVE_TIMEOUT_MS)]);
      await ended.promise;
      await withDeadline('committing what is done', LEAVE_TIMEOUT_MS, this.#commit()).catch(() => {});
    } finally {
      clearInterval(committing);
      membership.end();
      signal.removeEventListener('abort', stop);
      await this.#leave(consumer, sockets);
    }
  }

  async #begin(consumer: Consumer, eachBatch: EachBatchHandler, signal: AbortSignal): Promise<void> {
    const { kafka, topics, topicSettings } = this.#options;
    // kafkajs gives up on a topic that nobody has written to yet, and with it on the others, whose events may be what it waits for.
    if (topicSettings !== undefined) await ensureTopics(kafka, topics, topicSettings);
    await consumer.connect();
    if (!signal.aborted) await consumer.subscribe({ topics: [...topics], fromBeginning: true });
    if (!signal.aborted) await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch });
  }

  async #leave(consumer: Consumer, sockets: Sockets): Promise<void> {
    this.#commitOffsets = null;
    await withDeadline('leaving the group', LEAVE_TIMEOUT_MS, consumer.disconnect()).catch(() => {});
    sockets.cut(); // of a client that was given up, nothing goes on
    this.#assigned({});
  }

  #joined(assignment: Readonly<Record<string, number[]>>): void {
    const { kafka, groupId } = this.#options;
    kafka.logger.info({ groupId, partitions: assignment }, 'the group has given out its partitions');
    this.#assigned(assignment);
  }

  #assigned(assignment: Readonly<Record<string, number[]>>): void {
    this.#commitOffsets = null; // the next batch brings one that speaks for the new generation
    this.#committed.clear();
    this.#ends.clear();
    this.#options.intake.assigned(
      Object.entries(assignment).flatMap(([topic, partitions]) =>
        partitions.map((partition) => ({ topic, partition })),
      ),
    );
  }

  async #handleBatch({ batch, heartbeat, resolveOffset, commitOffsetsIfNecessary, isRunning }: EachBatchPayload) {
    const { intake } = this.#options;
    const { topic, partition, messages } = batch;
    this.#attempt = 0;
    this.#commitOffsets = commitOffsetsIfNecessary;
    this.#ends.set(`${topic}/${partition}`, BigInt(batch.highWatermark));
    intake.offer(messages.map((message) => toLogRecord(topic, partition, message)));
    const last = messages.at(-1);
    if (last !== undefined) resolveOffset(last.offset);
    // Without room the next fetch waits here; the heartbeat keeps the partitions meanwhile, and throws when they are to be handed over.
    while (!(await intake.waitForRoom(ROOM_WAIT_MS)) && isRunning() && !this.#stopping.signal.aborted)
      await heartbeat();
  }

  /** Commits what is done; one request at a time, so that an older offset never overtakes a newer one. */
  #commit(): Promise<void> {
    this.#committing = this.#committing.then(() => this.#commitNow());
    return this.#committing;
  }

  async #commitNow(): Promise<void> {
    const commitOffsets = this.#commitOffsets;
    const done = this.#options.intake.committable();
    this.#recordLag(done);
    const news = done.filter(({ topic, partition, offset }) => this.#committed.get(`${topic}/${partition}`) !== offset);
    if (commitOffsets === null || news.length === 0) return;
    const topics = [...Map.groupBy(news, ({ topic }) => topic)].map(([topic, partitions]) => ({
      topic,
      partitions: partitions.map(({ partition, offset }) => ({ partition, offset: String(offset) })),
    }));
    try {
      await withDeadline('a commit of offsets', COMMIT_TIMEOUT_MS, commitOffsets({ topics }));
      if (this.#commitOffsets !== commitOffsets && this.#commitOffsets === null) return; // a new assignment came meanwhile
      for (const { topic, partition, offset } of news) this.#committed.set(`${topic}/${partition}`, offset);
    } catch (error) {
      // A rebalance, or a coordinator that is away: the next turn commits, or the next owner repeats what the inbox knows.
      this.#options.kafka.logger.debug({ err: error, groupId: this.#options.groupId }, 'offsets are not committed');
    }
  }

  #recordLag(done: ReturnType<RecordIntake['committable']>): void {
    const lags = done.map(({ topic, partition, offset }) => {
      const end = this.#ends.get(`${topic}/${partition}`) ?? offset;
      return Math.max(0, Number(end - offset - 1n)); // the marker of the last transaction counts as read
    });
    if (lags.length > 0)
      this.#options.metrics.recordsLagMax.record(Math.max(...lags), { group: this.#options.groupId });
  }
}

/** Keeps no process alive. */
function someTimeAfter(signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => setTimeout(resolve, ms).unref(), { once: true });
  });
}

/**
 * Which brokers are being asked for records. kafkajs asks each in a loop of its own, and when one of these finds the metadata stale (a leader
 * moved, a topic got partitions) it joins the group again from within: what the other loops have fetched then still comes, from positions
 * that the new assignment knows nothing of, and committing behind it would lose what lies before. When a rebalance is the cause of a join,
 * all loops have ended before.
 */
class Fetches {
  readonly #brokers = new Set<number>();
  readonly #asked = new Set<number>();

  constructor(consumer: Consumer) {
    consumer.on(consumer.events.FETCH_START, ({ payload }) => {
      this.#brokers.add(payload.nodeId);
      this.#asked.add(payload.nodeId);
    });
    consumer.on(consumer.events.FETCH, ({ payload }) => this.#asked.delete(payload.nodeId));
    consumer.on(consumer.events.REBALANCING, () => this.#asked.clear());
  }

  /** While the group is being joined: whether records of the former assignment may come after it. Sometimes true without need. */
  mayOutlive(): boolean {
    return this.#asked.size > 0 && this.#brokers.size > 1;
  }
}
