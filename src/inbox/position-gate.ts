/**
 * Read your writes: holds a read of a projection back until the projection has applied everything that was committed below a position. Two
 * things must have happened by then, in this order:
 *
 * 1. the relay has published up to the position. It tells so with its heartbeats, of which one is asked for;
 * 2. the projection's group has committed what the topics held when that was seen. Its offsets are committed after its transactions.
 *
 * Events that the group has set aside as dead letters count as applied: nobody waits for an operator here.
 */
import type { GroupProgress } from '../kafka/group-progress.ts';
import type { PartitionRange } from '../kafka/log-reader.ts';
import { sleep, withDeadline } from '../kernel/deadline.ts';
import type { Lsn } from '../kernel/lsn.ts';
import { readPublishedLsn, requestHeartbeat } from '../outbox/relay-progress.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** How a wait ended: applied, or who had not got there when the time was over; `unknown` where somebody could not be asked. */
export type WaitResult = 'applied' | 'relay-behind' | 'consumers-behind' | 'unknown';

export interface PositionWait {
  readonly position: Lsn;
  /** How long to wait at most; 0 looks once. */
  readonly timeoutMs: number;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
}

/** Resolves when everything below the position is applied or the time is over; never rejects. */
export type UntilApplied = (wait: PositionWait) => Promise<WaitResult>;

export interface PositionGateOptions {
  readonly db: Queryable;
  /** The relay that publishes what the projection reads. */
  readonly relay: string;
  /** The projection's group; opened when the first read waits, and again after a failure. */
  readonly openGroup: () => Promise<Pick<GroupProgress, 'ends' | 'committed' | 'hasReached' | 'close'>>;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'positionWaitSeconds'>;
}

type Group = Awaited<ReturnType<PositionGateOptions['openGroup']>>;

interface Waiter {
  readonly position: Lsn;
  readonly deadlineMs: number;
  /** What the group must reach; null until the relay is known to have published the position. */
  ends: readonly PartitionRange[] | null;
  /** When a heartbeat was last asked for on its behalf. */
  requestedAtMs: number;
  /** What is answered when the time is over. */
  lacking: Exclude<WaitResult, 'applied'>;
  readonly settle: (result: WaitResult) => void;
}

/** All waiting reads share one look at the relay and the group, this often. */
const LOOK_EVERY_MS = 15;
const RETRY_AFTER_MS = 200;
/** A look takes milliseconds; a broker or a database that hangs is given up and asked anew. */
const LOOK_TIMEOUT_MS = 3_000;
/** Also who does not want to wait gets one look, if it takes no longer than this. */
const FIRST_LOOK_MS = 500;
/** A request is lost on a relay that is just starting, and passed over by one that is far behind. */
const REQUEST_AGAIN_MS = 500;
const MAX_WAITERS = 1_000;
const CLOSE_TIMEOUT_MS = 1_000;

export class PositionGate {
  readonly #options: PositionGateOptions;
  readonly #waiters = new Set<Waiter>();
  #group: Promise<Group> | null = null;
  #looking = false;
  #failing = false;
  #closed = false;

  constructor(options: PositionGateOptions) {
    this.#options = options;
  }

  readonly untilApplied: UntilApplied = async ({ position, timeoutMs, signal }) => {
    if (this.#closed || signal.aborted || this.#waiters.size >= MAX_WAITERS) return 'unknown';
    const beganAt = performance.now();
    const { promise, resolve: settle } = Promise.withResolvers<WaitResult>();
    const waiter: Waiter = {
      position,
      deadlineMs: beganAt + timeoutMs,
      ends: null,
      requestedAtMs: Number.NEGATIVE_INFINITY,
      lacking: 'unknown',
      settle,
    };
    const giveUp = () => settle(waiter.lacking);
    const timer = setTimeout(giveUp, Math.max(timeoutMs, FIRST_LOOK_MS));
    signal.addEventListener('abort', giveUp);
    this.#waiters.add(waiter);
    if (!this.#looking) void this.#lookUntilNobodyWaits();
    const result = await promise;
    this.#waiters.delete(waiter);
    signal.removeEventListener('abort', giveUp);
    clearTimeout(timer);
    this.#options.metrics.positionWaitSeconds.record((performance.now() - beganAt) / 1000, { result });
    return result;
  };

  /** Lets go of everybody who waits, and of Kafka. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiters) waiter.settle(waiter.lacking);
    await withDeadline('leaving Kafka', CLOSE_TIMEOUT_MS, this.#leaveGroup()).catch(() => {});
  }

  async #lookUntilNobodyWaits(): Promise<void> {
    this.#looking = true;
    while (this.#waiters.size > 0 && !this.#closed) {
      let pauseMs = LOOK_EVERY_MS;
      try {
        await withDeadline('a look at the relay and the group', LOOK_TIMEOUT_MS, this.#look());
        this.#failing = false;
      } catch (error) {
        pauseMs = RETRY_AFTER_MS;
        this.#noteFailure(error);
      }
      const now = performance.now();
      for (const waiter of this.#waiters) if (waiter.deadlineMs <= now) waiter.settle(waiter.lacking);
      await sleep(pauseMs);
    }
    this.#looking = false;
  }

  async #look(): Promise<void> {
    const unpublished = [...this.#waiters].filter(({ ends }) => ends === null);
    if (unpublished.length > 0) await this.#lookAtRelay(unpublished);
    const published = [...this.#waiters].filter(({ ends }) => ends !== null);
    if (published.length > 0) await this.#lookAtGroup(published);
  }

  async #lookAtRelay(waiters: readonly Waiter[]): Promise<void> {
    const { db, relay } = this.#options;
    const published = await readPublishedLsn(db, relay);
    const isPublished = ({ position }: Waiter) => published !== null && position <= published;
    await this.#requestHeartbeat(waiters.filter((waiter) => !isPublished(waiter)));
    const ready = waiters.filter(isPublished);
    if (ready.length === 0) return;
    const group = await this.#openGroup();
    const ends = await group.ends(); // only now: what the relay had published before stands below
    for (const waiter of ready) waiter.ends = ends;
  }

  async #requestHeartbeat(waiters: readonly Waiter[]): Promise<void> {
    const { db, relay } = this.#options;
    const now = performance.now();
    for (const waiter of waiters) waiter.lacking = 'relay-behind';
    if (!waiters.some(({ requestedAtMs }) => requestedAtMs + REQUEST_AGAIN_MS <= now)) return;
    await requestHeartbeat(db, relay);
    for (const waiter of waiters) waiter.requestedAtMs = now;
  }

  async #lookAtGroup(waiters: readonly Waiter[]): Promise<void> {
    const group = await this.#openGroup();
    const committed = await group.committed();
    for (const [ends, cohort] of Map.groupBy(waiters, (waiter) => waiter.ends)) {
      const reached = await group.hasReached(ends ?? [], committed);
      for (const waiter of cohort) {
        waiter.lacking = 'consumers-behind';
        if (reached) waiter.settle('applied');
      }
    }
  }

  #openGroup(): Promise<Group> {
    this.#group ??= this.#options.openGroup();
    return this.#group;
  }

  async #leaveGroup(): Promise<void> {
    const group = this.#group;
    this.#group = null;
    await (await group?.catch(() => null))?.close().catch(() => {});
  }

  /** Logged once until it is well again: every waiting read meets the same. */
  #noteFailure(err: unknown): void {
    for (const waiter of this.#waiters) waiter.lacking = 'unknown';
    if (!this.#failing) this.#options.logger.warn({ err }, 'nobody can be told whether their position is applied');
    this.#failing = true;
    void this.#leaveGroup(); // not waited for: it may still be connecting
  }
}
