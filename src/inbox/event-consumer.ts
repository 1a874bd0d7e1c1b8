/**
 * A consumer of events: each has its effect once, whatever Kafka delivers again, and in the order of its key. Several workers share what the
 * group gives to this member; none waits for a key that another one has.
 */
import type { Tracer } from '@opentelemetry/api';
import type { KafkaOptions } from '../kafka/client.ts';
import { GroupConsumer, type RecordIntake, type TopicPartition } from '../kafka/consumer.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import type { TopicSettings } from '../kafka/topic-catalog.ts';
import { Broadcast } from '../kernel/broadcast.ts';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import { type FailPoint, noFailPoints } from '../kernel/fail-point.ts';
import type { Pool } from '../postgres/connection.ts';
import { keepInboxPartitions } from '../postgres/partitions.ts';
import type { DiscreetDecoder } from '../registry/decoder.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { Applier } from './applier.ts';
import { Assignment, type QueueLimits } from './assignment.ts';
import { DeadLetters } from './dead-letters.ts';
import type { AnyHandler } from './handler.ts';
import { Horizon } from './horizon.ts';
import { releasedKeys } from './inbox-store.ts';
import { keyId, type Work } from './key-scheduler.ts';
import { PoisonDesk, type PoisonPolicy } from './poison.ts';
import { Processor } from './processor.ts';
import { Releaser } from './releaser.ts';
import { Retrier } from './retrier.ts';
import type { RetryPolicy } from './retry-policy.ts';
import { openRetries } from './retry-store.ts';
import { SetAsideEvents } from './set-aside-events.ts';

/** How a consumer behaves; each has a default (CONSUMER_DEFAULTS). */
export interface ConsumerSettings {
  readonly onPoison: PoisonPolicy;
  readonly retry: RetryPolicy;
  /** Transactions at the same time. One is always left to keys that did not fail lately. */
  readonly concurrency: number;
  /** Most events in one transaction. Slow handlers get fewer by themselves. */
  readonly maxBatchEvents: number;
  /**
   * While a batch is under way the next one gathers, until that one has ended, this long or until it is full: on a busy machine few large
   * batches do the work of many small ones at a part of the cost, and on an idle one nothing waits, since nothing is under way.
   */
  readonly gatherMs: number;
  /** What may be read ahead; the partitions are paused beyond it. */
  readonly queue: QueueLimits;
  /** Longest time for one call of a handler. */
  readonly handlerTimeoutMs: number;
  /** How long a stop or a rebalance waits for what is in flight; then it is rolled back and comes again. */
  readonly stopTimeoutMs: number;
  /** How long this member may be silent before the group gives its partitions to others: their wait when it crashes. */
  readonly sessionTimeoutMs: number;
  /** How often what is done is told to Kafka: what a crash brings again, and the inbox drops, grows with it. */
  readonly commitIntervalMs: number;
  /** Days that the inbox remembers. */
  readonly inboxRetentionDays: number;
}

export const CONSUMER_DEFAULTS: ConsumerSettings = {
  onPoison: 'park',
  retry: { maxTries: 3, baseMs: 200, maxMs: 10_000 },
  concurrency: 4,
  maxBatchEvents: 500,
  gatherMs: 50,
  queue: { maxEvents: 10_000, maxBytes: 33_554_432 },
  handlerTimeoutMs: 30_000,
  stopTimeoutMs: 10_000,
  sessionTimeoutMs: 10_000,
  commitIntervalMs: 100,
  inboxRetentionDays: 30,
};

export interface EventConsumerParts {
  readonly kafka: KafkaOptions;
  /** Of the database that holds the inbox and what the handlers write; a connection per worker is used. */
  readonly pool: Pool;
  readonly decoder: DiscreetDecoder;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  /** Of topics that are missing, the dead-letter topic among them: they are made. */
  readonly topicSettings: TopicSettings;
  /** Longest pause while a part is away. */
  readonly backoffMaxMs: number;
  /** Chaos tests; default: none. */
  readonly failPoint?: FailPoint;
}

export interface EventConsumerOptions extends EventConsumerParts {
  /** Consumer group in Kafka, and the name under which the inbox keeps what was applied. */
  readonly group: string;
  readonly topics: readonly string[];
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly settings?: Partial<ConsumerSettings>;
}

/** Without the envelope a record of this size still fits into Kafka's default of 1 MiB. */
const MAX_DEAD_LETTER_BYTES = 1_000_000;
const MAX_BATCH_BYTES = 4_194_304;
const OPERATORS_POLL_MS = 2_000;
/** Batches are sized so that their transactions last about this long at most: others wait for the keys in them. */
const LONG_BATCH_MS = 1_000;
const SHORT_BATCH_MS = 250;
/** Nothing is known yet of how fast the handlers are; a batch that is far too large would be lost as a whole in the next crash. */
const FIRST_BATCH_EVENTS = 32;

export class EventConsumer implements RecordIntake {
  readonly #options: EventConsumerOptions;
  readonly #settings: ConsumerSettings;
  readonly #group: GroupConsumer;
  readonly #processor: Processor;
  readonly #releaser: Releaser;
  readonly #retrier: Retrier;
  readonly #deadLetters: DeadLetters;
  readonly #changed = new Broadcast();
  readonly #stopping = new AbortController();
  readonly #giveUp = new AbortController();
  #assignment = new Assignment([]);
  #running: Promise<unknown> | undefined;
  #stopPartitions: (() => void) | undefined;
  #paused = false;
  #alone = 0;
  #batchEvents: number;
  /** Events that workers have, and when one last took some. */
  #takenEvents = 0;
  #takenAtMs = Number.NEGATIVE_INFINITY;
  /** Attempts since a part went away, and when the next one may be. */
  #awayAttempts = 0;
  #awayUntilMs = 0;

  constructor(options: EventConsumerOptions) {
    const { kafka, pool, group, handlers, decoder, logger, metrics, tracer, topics, backoffMaxMs } = options;
    const settings = { ...CONSUMER_DEFAULTS, ...options.settings };
    const { failPoint = noFailPoints } = options;
    const { retry, handlerTimeoutMs, sessionTimeoutMs, commitIntervalMs, onPoison: policy } = settings;
    this.#options = options;
    this.#settings = settings;
    this.#batchEvents = Math.min(FIRST_BATCH_EVENTS, settings.maxBatchEvents);
    const deadLetters = new DeadLetters({
      kafka,
      group,
      topics: options.topicSettings,
      retry,
      maxRecordBytes: MAX_DEAD_LETTER_BYTES,
    });
    const horizon = new Horizon(pool);
    const applier = new Applier({ pool, group, tracer, handlerTimeoutMs, giveUp: this.#giveUp.signal, failPoint });
    const poison = new PoisonDesk({ pool, group, policy, deadLetters, decoder, horizon, metrics, failPoint });
    this.#deadLetters = deadLetters;
    this.#processor = new Processor({ group, handlers, decoder, applier, poison, horizon, retry, logger, metrics });
    const setAside = new SetAsideEvents({ pool, group, handlers, decoder, applier, retry });
    this.#releaser = new Releaser({ pool, group, setAside, deadLetters, logger, failPoint });
    this.#retrier = new Retrier({ pool, group, setAside, deadLetters, logger, failPoint });
    const { topicSettings } = options;
    const membership = { groupId: group, topics, topicSettings, sessionTimeoutMs, commitIntervalMs, backoffMaxMs };
    this.#group = new GroupConsumer({ ...membership, kafka, metrics, intake: this });
  }

  /** Begins to consume. Kafka, Postgres and the registry need not be there yet. */
  start(): void {
    if (this.#running !== undefined) return;
    const { pool, logger, group } = this.#options;
    this.#stopPartitions = keepInboxPartitions(pool, this.#settings.inboxRetentionDays, (err) =>
      logger.warn({ err, group }, 'the inbox has no new partitions'),
    );
    const workers = Array.from({ length: this.#settings.concurrency }, () => this.#work());
    this.#running = Promise.all([...workers, this.#workForOperators()]);
    this.#group.start();
  }

  /** Takes nothing up any more until `resume`; what is in flight goes on, and the partitions stay with this member. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#changed.wake();
  }

  /** Finishes what is in flight within the stop time-out or hands it back, commits what is done, and leaves the group. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#changed.wake();
    this.#stopPartitions?.();
    const deadline = setTimeout(
      () => this.#giveUp.abort(new Error('the consumer stops')),
      this.#settings.stopTimeoutMs,
    );
    await this.#running;
    clearTimeout(deadline);
    await this.#group.stop();
    await this.#deadLetters.close();
  }

  assigned(partitions: readonly TopicPartition[]): void {
    const former = this.#assignment;
    this.#assignment = new Assignment(partitions);
    setTimeout(() => former.end(), this.#settings.stopTimeoutMs).unref();
    this.#changed.wake();
  }

  offer(records: readonly LogRecord[]): void {
    this.#assignment.offer(records);
    this.#changed.wake();
  }

  async waitForRoom(timeoutMs: number): Promise<boolean> {
    if (!this.#assignment.hasRoom(this.#settings.queue)) await this.#changed.wait(timeoutMs);
    return this.#assignment.hasRoom(this.#settings.queue);
  }

  committable(): Array<TopicPartition & { offset: bigint }> {
    const { metrics, group } = this.#options;
    metrics.consumerQueuedEvents.record(this.#assignment.scheduler.size, { group });
    return this.#assignment.committable();
  }

  async #work(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const assignment = this.#assignment;
      const nowMs = performance.now();
      const work = nowMs >= this.#notBeforeMs(assignment) && !this.#paused ? this.#take(assignment, nowMs) : null;
      if (work === null) await this.#changed.wait(this.#idleMs(assignment, nowMs));
      else await this.#do(assignment, work);
    }
  }

  /** When a worker may take something up. */
  #notBeforeMs({ scheduler }: Assignment): number {
    const gathers = this.#takenEvents > 0 && scheduler.size - this.#takenEvents < this.#batchEvents;
    return Math.max(this.#awayUntilMs, gathers ? this.#takenAtMs + this.#settings.gatherMs : 0);
  }

  #take({ scheduler }: Assignment, nowMs: number): Work | null {
    const { concurrency } = this.#settings;
    const work = scheduler.take(nowMs, {
      maxRecords: this.#batchEvents,
      maxBytes: MAX_BATCH_BYTES,
      aloneAllowed: this.#alone < Math.max(1, concurrency - 1),
    });
    if (work === null) return null;
    if (work.kind === 'alone') this.#alone += 1;
    this.#takenEvents += work.records.length;
    this.#takenAtMs = nowMs;
    return work;
  }

  /** Until something becomes due by itself; null if only an event, a resume or a stop can change anything. */
  #idleMs(assignment: Assignment, nowMs: number): number | null {
    if (this.#paused) return null;
    const notBeforeMs = this.#notBeforeMs(assignment);
    const dueMs = nowMs < notBeforeMs ? notBeforeMs : assignment.scheduler.nextDueMs(nowMs);
    return dueMs === null ? null : Math.max(1, dueMs - nowMs);
  }

  async #do(assignment: Assignment, work: Work): Promise<void> {
    const { logger, group, metrics } = this.#options;
    const startedMs = performance.now();
    const { undone, away } = await this.#processor.process(work, assignment.over);
    const tookMs = performance.now() - startedMs;
    if (work.kind === 'alone') this.#alone -= 1;
    this.#takenEvents -= work.records.length;
    assignment.finish(work, undone);
    if (away === null) {
      this.#awayAttempts = 0;
      this.#resize(work, tookMs);
      metrics.consumerBatchSeconds.record(tookMs / 1_000, { group });
    } else if (assignment === this.#assignment) {
      this.#awayUntilMs = performance.now() + backoffMs(this.#awayAttempts++, 100, this.#options.backoffMaxMs);
      logger.warn({ group, code: away.code, reason: away.message }, 'events wait: a part cannot be reached');
    }
    this.#changed.wake();
  }

  #resize({ kind, records }: Work, tookMs: number): void {
    if (kind !== 'batch') return;
    if (tookMs > LONG_BATCH_MS) this.#batchEvents = Math.max(1, Math.floor(records.length / 2));
    else if (tookMs < SHORT_BATCH_MS && records.length >= this.#batchEvents) {
      this.#batchEvents = Math.min(this.#settings.maxBatchEvents, this.#batchEvents * 2);
    }
  }

  /** Looks now and then whether an operator has released a key of ours, or sent back a dead letter. */
  async #workForOperators(): Promise<void> {
    const { pool, group, logger } = this.#options;
    while (await sleep(OPERATORS_POLL_MS, this.#stopping.signal)) {
      const assignment = this.#assignment;
      try {
        for (const key of await releasedKeys(pool, group, assignment.partitions)) {
          const id = keyId({ topic: key.topic, key: key.key });
          await this.#whileHeld(assignment, id, () => this.#releaser.release(key, this.#stopping.signal));
        }
        for (const request of await openRetries(pool, group, assignment.partitions)) {
          await this.#whileHeld(assignment, keyId(request.record), () =>
            this.#retrier.retry(request, this.#stopping.signal),
          );
        }
      } catch (thrown) {
        logger.warn({ err: coerceError(thrown), group }, 'released keys and retries wait: a part cannot be reached');
      }
    }
  }

  async #whileHeld({ scheduler }: Assignment, id: string, work: () => Promise<void>): Promise<void> {
    scheduler.hold(id);
    try {
      while (scheduler.isTaken(id) && !this.#stopping.signal.aborted) await this.#changed.wait(null);
      if (!this.#stopping.signal.aborted) await work();
    } finally {
      scheduler.letGo(id);
      this.#changed.wake();
    }
  }
}
