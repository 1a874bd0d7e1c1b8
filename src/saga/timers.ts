/** The loop that runs due timers, in bounded batches, for as long as there are any. Any number of processes may run one. */
import { backoffMs, sleep } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import type { Pool } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { SagaEngine } from './engine.ts';
import { countWaiting } from './store.ts';

export interface SagaTimersOptions {
  readonly engine: SagaEngine;
  readonly pool: Pool;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'sagasWaiting'>;
  /** Most timers in one transaction; default 100. */
  readonly batchSize?: number;
  /** Pause when nothing is due, so also how late a timer may be; default 500. */
  readonly pollMs?: number;
}

const FAILURE_BACKOFF = { baseMs: 500, maxMs: 30_000 };
/** The count for the metric reads an index; every few seconds is enough for an alert. */
const COUNT_EVERY_MS = 10_000;

export class SagaTimers {
  readonly #options: SagaTimersOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  #countedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SagaTimersOptions) {
    this.#options = options;
  }

  /** Begins to look for due timers; does nothing the second time. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the batch that runs is done. Safe before `start` and twice. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** What is overdue after a downtime is worked off without pauses, batch after batch. */
  async #run(): Promise<void> {
    const { engine, pool, logger, batchSize = 100, pollMs = 500 } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const { fired, setAside } = await engine.runDueTimers(pool, batchSize);
        await this.#countWaiting();
        failures = 0;
        if (fired + setAside < batchSize) await sleep(pollMs, signal);
      } catch (error) {
        logger.warn({ err: coerceError(error) }, 'timers of sagas cannot be run');
        await sleep(backoffMs(failures++, FAILURE_BACKOFF.baseMs, FAILURE_BACKOFF.maxMs), signal);
      }
    }
  }

  async #countWaiting(): Promise<void> {
    if (performance.now() - this.#countedAtMs < COUNT_EVERY_MS) return;
    this.#countedAtMs = performance.now();
    const waiting = await countWaiting(this.#options.pool);
    this.#options.metrics.sagasWaiting.record(waiting.stuck, { state: 'stuck' });
    this.#options.metrics.sagasWaiting.record(waiting.compensation_failed, { state: 'compensation_failed' });
  }
}
