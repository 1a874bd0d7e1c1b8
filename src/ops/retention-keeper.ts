/** Runs retention by itself, once an hour; any number of processes may: one of them works, the others look again an hour later. */
import type { Config } from '../config/variables.ts';
import { OPS } from '../domain/audit.ts';
import { FerryError } from '../kernel/errors.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { Poller } from '../kernel/poller.ts';
import type { ConnectionSettings, Queryable } from '../postgres/connection.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type DayReport, runRetention } from './retention.ts';
import { HOLD_REASONS } from './retention-holds.ts';

export interface RetentionKeeperOptions {
  readonly settings: ConnectionSettings & Pick<Config, 'OUTBOX_RETENTION'>;
  readonly deadLetters: Queryable;
  readonly failPoint: FailPoint;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'outboxDaysKept' | 'outboxDaysDroppedTotal'>;
  /** Default one hour. */
  readonly intervalMs?: number;
}

const HOUR_MS = 3_600_000;

export class RetentionKeeper extends Poller {
  readonly #options: RetentionKeeperOptions;
  /** By day, why it was kept the last time: told once for each reason. */
  readonly #kept = new Map<string, string>();

  constructor(options: RetentionKeeperOptions) {
    const onError = (err: Error) => options.logger.warn({ err }, 'old days of the outbox cannot be taken out');
    super({ turn: (signal) => this.#turn(signal), onError });
    this.#options = options;
  }

  async #turn(signal: AbortSignal): Promise<number> {
    const { settings, deadLetters, failPoint, metrics, intervalMs = HOUR_MS } = this.#options;
    const daysKept = settings.OUTBOX_RETENTION;
    if (daysKept === 0) return intervalMs; // everything is kept
    const db = await SerialClient.connect(settings, 'ferry-retention', () => {});
    try {
      const onDay = (report: DayReport) => this.#tell(report);
      const options = { db, deadLetters, daysKept, dryRun: false, actor: OPS, failPoint, onDay, signal };
      const reports = await runRetention(options);
      for (const reason of HOLD_REASONS) {
        metrics.outboxDaysKept.record(reports.filter(({ hold }) => hold?.reason === reason).length, { reason });
      }
    } catch (error) {
      if (!(error instanceof FerryError && error.code === 'CONFLICT')) throw error; // another process is at it
    } finally {
      await db.end();
    }
    return intervalMs;
  }

  #tell({ day, rows, outcome, hold }: DayReport): void {
    const { logger, metrics } = this.#options;
    if (outcome === 'dropped') {
      this.#kept.delete(day);
      metrics.outboxDaysDroppedTotal.add(1);
      logger.info({ day, rows }, 'dropped a day of the outbox');
    } else if (hold !== null && this.#kept.get(day) !== hold.reason) {
      this.#kept.set(day, hold.reason);
      logger.warn(
        { day, reason: hold.reason, detail: hold.detail },
        'a day of the outbox is kept beyond its retention',
      );
    }
  }
}
