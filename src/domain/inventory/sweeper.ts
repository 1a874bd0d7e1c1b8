/** Gives expired reservations free, in bounded batches, by and by; any number of processes may do it at once. */
import { Poller } from '../../kernel/poller.ts';
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

export class ReservationSweeper extends Poller {
  constructor({ pool, logger, intervalMs, batch }: SweeperOptions) {
    super({
      turn: async () => {
        const released = await releaseExpired(pool, batch);
        if (released > 0) logger.info({ released }, 'expired reservations are free again');
        return released < batch ? intervalMs : 0;
      },
      onError: (err) => logger.warn({ err }, 'expired reservations cannot be given free for now'),
    });
  }
}
