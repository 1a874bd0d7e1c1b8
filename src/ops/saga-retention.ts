/**
 * Drops sagas that ended long ago, once an hour, with their steps and history. They are kept at least as long as the inbox remembers: until
 * then an event that comes again finds its saga, and afterwards the inbox refuses it, so that it starts no second one.
 */
import type { Config } from '../config/variables.ts';
import { OPS, recordOperation } from '../domain/audit.ts';
import { Poller } from '../kernel/poller.ts';
import type { Pool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface SagaRetentionOptions {
  readonly pool: Pool;
  readonly settings: Pick<Config, 'SAGA_RETENTION' | 'INBOX_RETENTION_DAYS'>;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'sagasDroppedTotal'>;
  /** Most sagas in one transaction; default 500, with some 10,000 rows of history. */
  readonly batchSize?: number;
  /** Pause when none is old enough; default one hour. */
  readonly intervalMs?: number;
}

const HOUR_MS = 3_600_000;

export class SagaRetention extends Poller {
  readonly #options: SagaRetentionOptions;

  constructor(options: SagaRetentionOptions) {
    const onError = (err: Error) => options.logger.warn({ err }, 'ended sagas cannot be dropped');
    super({ turn: () => this.#turn(), onError });
    this.#options = options;
  }

  async #turn(): Promise<number> {
    const { settings, logger, metrics, batchSize = 500, intervalMs = HOUR_MS } = this.#options;
    if (settings.SAGA_RETENTION === 0) return intervalMs; // all are kept
    const days = Math.max(settings.SAGA_RETENTION, settings.INBOX_RETENTION_DAYS);
    const sagas = await this.#drop(days, batchSize);
    if (sagas > 0) {
      metrics.sagasDroppedTotal.add(sagas);
      logger.info({ sagas, days }, 'dropped sagas that ended long ago');
    }
    return sagas < batchSize ? intervalMs : 0;
  }

  #drop(days: number, atMost: number): Promise<number> {
    return transaction(this.#options.pool, async (tx) => {
      const { rows } = await tx.query<{ sagas: number }>(
        `select ferry.drop_ended_sagas(now() - $1 * interval '1 day', $2) as sagas`,
        [days, atMost],
      );
      const sagas = rows[0]?.sagas ?? 0;
      const reason = `${sagas} sagas that ended more than ${days} days ago`;
      if (sagas > 0) await recordOperation(tx, OPS, { action: 'sagas.drop', subject: 'sagas', eventId: null, reason });
      return sagas;
    });
  }
}
