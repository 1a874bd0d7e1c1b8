/** Gives expired reservations free, in bounded batches, by and by; any number of processes may do it at once. */
import { backoffMs, sleep } from '../../kernel/deadline.ts';
import { describeError } from '../../kernel/errors.ts';
import type { Pool } from '../../postgres/connection.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { releaseExpired } from './commands.ts';

export interface SweeperOptions {
  readonly pool: Pool;
  readonly logger: Logger;
  /** Pause after a sweep that found less than a batch. */
  readonly intervalMs: number;
  readonly batch: number;
}

export const SWEEPER_DEFAULTS = { intervalMs: 5_000, batch: 200 } as const;

const BACKOFF_MAX_MS = 30_000;

export class ReservationSweeper {
  readonly #options: SweeperOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run(this.#stop.signal);
  }

  /** Resolves when the sweep in flight has ended. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { intervalMs, batch } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const swept = await this.#sweep();
      failures = swept === null ? failures + 1 : 0;
      if (swept === batch) continue;
      await sleep(swept === null ? backoffMs(failures, intervalMs, BACKOFF_MAX_MS) : intervalMs, signal);
    }
  }

  /** Null if it could not be done now. */
  async #sweep(): Promise<number | null> {
    const { pool, logger, batch } = this.#options;
    try {
      const released = await releaseExpired(pool, batch);
      if (released > 0) logger.info({ released }, 'expired reservations are free again');
      return released;
    } catch (error) {
      logger.warn(
        { reason: describeError(error) },
        'expired reservations could not be given free; they are tried again',
      );
      return null;
    }
  }
}
