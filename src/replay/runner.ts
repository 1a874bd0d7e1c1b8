/** Goes on with the replays that are due, step by step, for as long as there are any. Any number of processes may run one. */
import { coerceError, describeError, FerryError } from '../kernel/errors.ts';
import { Poller } from '../kernel/poller.ts';
import { requestHeartbeat } from '../outbox/relay-progress.ts';
import type { Pool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type StepOptions, type StepResult, takeStep } from './step.ts';
import { lockDueReplay, lockReplay, postponeReplay, saveReplay } from './store.ts';

export interface ReplayRunnerOptions extends StepOptions {
  readonly pool: Pool;
  /** Whose replays. */
  readonly relay: string;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'replayedEventsTotal'>;
  /** Pause when nothing is due; default 250. */
  readonly pollMs?: number;
}

export class ReplayRunner extends Poller {
  readonly #options: ReplayRunnerOptions;

  constructor(options: ReplayRunnerOptions) {
    const { logger, pollMs = 250 } = options;
    super({
      turn: async () => ((await this.#step()) ? 0 : pollMs),
      onError: (err) => logger.warn({ err }, 'replays cannot be gone on with'),
    });
    this.#options = options;
  }

  /** False when nothing was due. A replay that fails does not hold up the others: it is put off, and says why. */
  async #step(): Promise<boolean> {
    const { pool, relay, metrics, failPoint } = this.#options;
    const due: { id: string | null } = { id: null };
    let result: StepResult | null;
    try {
      result = await transaction(pool, async (tx) => {
        const job = await lockDueReplay(tx, relay);
        due.id = job?.id ?? null;
        return job === null ? null : takeStep(tx, job, this.#options);
      });
    } catch (error) {
      if (due.id === null) throw error;
      await this.#putOff(due.id, error);
      return true;
    }
    if (result === null) return false;
    if (result.emitted > 0) {
      metrics.replayedEventsTotal.add(result.emitted);
      failPoint('after-replay-commit');
    }
    if (result.waitsForRelay) await requestHeartbeat(pool, relay);
    return true;
  }

  /** What no waiting mends ends it, before the first record; anything else is tried again. */
  async #putOff(id: string, thrown: unknown): Promise<void> {
    const { pool, logger } = this.#options;
    const error = coerceError(thrown);
    logger.warn({ err: error, replay: id }, 'a replay cannot be gone on with');
    const code = error instanceof FerryError ? error.code : 'INTERNAL';
    if (error instanceof FerryError && error.code === 'REPLAY_TOPIC_INVALID') {
      await transaction(pool, async (tx) => {
        const job = await lockReplay(tx, id);
        if (job?.state !== 'checking') return;
        await saveReplay(tx, { ...job, state: 'refused', errorCode: error.code, error: error.message });
      });
      return;
    }
    await postponeReplay(pool, id, 5_000, { code, message: describeError(error) });
  }
}
