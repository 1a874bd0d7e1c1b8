/** The loop that runs due timers, in bounded batches, for as long as there are any. Any number of processes may run one. */
import { Poller } from '../kernel/poller.ts';
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

/** The count for the metric reads an index; every few seconds is enough for an alert. */
const COUNT_EVERY_MS = 10_000;

export class SagaTimers extends Poller {
  readonly #options: SagaTimersOptions;
  #countedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SagaTimersOptions) {
    const onError = (err: Error) => options.logger.warn({ err }, 'timers of sagas cannot be run');
    super({ turn: () => this.#turn(), onError });
    this.#options = options;
  }

  /** What is overdue after a downtime is worked off without pauses, batch after batch. */
  async #turn(): Promise<number> {
    const { engine, pool, batchSize = 100, pollMs = 500 } = this.#options;
    const { fired, setAside } = await engine.runDueTimers(pool, batchSize);
    await this.#countWaiting();
    return fired + setAside < batchSize ? pollMs : 0;
  }

  async #countWaiting(): Promise<void> {
    if (performance.now() - this.#countedAtMs < COUNT_EVERY_MS) return;
    this.#countedAtMs = performance.now();
    const waiting = await countWaiting(this.#options.pool);
    this.#options.metrics.sagasWaiting.record(waiting.stuck, { state: 'stuck' });
    this.#options.metrics.sagasWaiting.record(waiting.compensation_failed, { state: 'compensation_failed' });
  }
}
