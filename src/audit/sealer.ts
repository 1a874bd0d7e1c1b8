/**
 * Links what applications wrote into the audit, within seconds of its commit. Any number of processes may run one: the chain's lock lets one
 * of them work, the others look again later. A crash loses nothing, since links and queue change in one transaction.
 */
import { Poller } from '../kernel/poller.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface AuditSealerOptions {
  readonly db: Queryable;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'auditUnlinked' | 'auditPosition'>;
  /** Most rows in one transaction, and for as long operators' writes wait at most; default 1,000 (some 100 ms). */
  readonly batchSize?: number;
  /** Pause when nothing is to be linked; default 1,000. */
  readonly pollMs?: number;
}

/** The counts for the metrics; every few seconds is enough for an alert. */
const MEASURE_EVERY_MS = 10_000;

/** Links up to `most` rows; returns how many, 0 while another does it. */
export async function sealAudit(db: Queryable, most: number): Promise<number> {
  const { rows } = await db.query<{ sealed: number | null }>('select ferry.seal_audit($1) as sealed', [most]);
  return rows[0]?.sealed ?? 0;
}

export class AuditSealer extends Poller {
  readonly #options: AuditSealerOptions;
  #measuredAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: AuditSealerOptions) {
    const onError = (err: Error) => options.logger.warn({ err }, 'the audit cannot be linked');
    super({ turn: () => this.#turn(), onError });
    this.#options = options;
  }

  async #turn(): Promise<number> {
    const { db, batchSize = 1_000, pollMs = 1_000 } = this.#options;
    const sealed = await sealAudit(db, batchSize);
    await this.#measure();
    return sealed < batchSize ? pollMs : 0;
  }

  async #measure(): Promise<void> {
    if (performance.now() - this.#measuredAtMs < MEASURE_EVERY_MS) return;
    this.#measuredAtMs = performance.now();
    const { db, metrics } = this.#options;
    const { rows } = await db.query<{ unlinked: number; position: number }>(
      `select (select count(*)::int from ferry.audit_unlinked) as unlinked,
              coalesce((select max(position) from ferry.audit_link), 0)::float8 as position`,
    );
    const [row] = rows;
    if (row === undefined) return;
    metrics.auditUnlinked.record(row.unlinked);
    metrics.auditPosition.record(row.position);
  }
}
