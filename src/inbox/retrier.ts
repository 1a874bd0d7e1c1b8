/**
 * Retries single dead letters that an operator has sent back to the group. The request ends as `applied` in the transaction of the effect, so
 * whatever is killed, the event is applied once: a request that is still open is done again, and finds in the inbox what was done.
 */
import type { LogRecord } from '../kafka/log-reader.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import type { Pool } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { DeadLetters } from './dead-letters.ts';
import { TOO_OLD } from './horizon.ts';
import { claimParked, inboxState, parkedAmong } from './inbox-store.ts';
import { claimDeadLettered, endRetry, type RetryOutcome, type RetryRequest } from './retry-store.ts';
import type { SetAsideEvents } from './set-aside-events.ts';

export interface RetrierOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly setAside: SetAsideEvents;
  readonly deadLetters: Pick<DeadLetters, 'originalOf'>;
  readonly logger: Logger;
  readonly failPoint: FailPoint;
}

export class Retrier {
  readonly #options: RetrierOptions;

  constructor(options: RetrierOptions) {
    this.#options = options;
  }

  /**
   * Applies the event, whose key nobody may take meanwhile, and notes how it ended; when a part is away, or the signal fired, the request
   * stands. Rejects while Kafka, Postgres or the registry is away.
   */
  async retry(request: RetryRequest, signal: AbortSignal): Promise<void> {
    const { pool, group, logger } = this.#options;
    const ended = await this.#attempt(request, signal);
    if (ended === null) return;
    await endRetry(pool, request.id, ended);
    const facts = { group, topic: request.record.topic, eventId: request.entry.id };
    if (ended.outcome !== 'failed') logger.info(facts, `a dead letter that was sent back is ${ended.outcome}`);
    else logger.error({ ...facts, code: ended.code }, 'a dead letter that was sent back failed again');
  }

  /** Null: nothing is said about it yet. */
  async #attempt(request: RetryRequest, signal: AbortSignal): Promise<RetryOutcome | null> {
    const { pool, group, setAside, deadLetters, failPoint } = this.#options;
    const { entry, id, record } = request;
    const state = await inboxState(pool, group, entry);
    if (state === 'applied' || state === 'discarded') return { outcome: state };
    if (state === 'forgotten') return { outcome: 'failed', code: TOO_OLD.code, message: TOO_OLD.message };
    if (state === 'parked' && (await this.#isKeyParked(record))) {
      // its key's release applies it, in its order
      return { outcome: 'failed', code: 'KEY_PARKED', message: 'the key was parked meanwhile: retry it once more' };
    }
    const claimIt = state === 'parked' ? claimParked : claimDeadLettered;
    const end = await setAside.apply(
      entry,
      request.carried ? record : await deadLetters.originalOf(record),
      async (tx) => {
        const claimed = await claimIt(tx, group, entry);
        if (claimed) await endRetry(tx, id, { outcome: 'applied' });
        return claimed;
      },
      signal,
    );
    failPoint('after-retry');
    switch (end.kind) {
      case 'settled': {
        const now = await inboxState(pool, group, entry);
        return now === 'applied' || now === 'discarded' ? { outcome: now } : null;
      }
      case 'unwanted':
        return { outcome: 'failed', code: 'HANDLER_MISSING', message: 'no handler of the group wants this type' };
      case 'failed':
        return { outcome: 'failed', code: end.code, message: end.message };
      case 'away':
        return null;
    }
  }

  /** An event of a key that is not: a release has passed it over, since no handler wanted it. */
  async #isKeyParked({ topic, key }: LogRecord): Promise<boolean> {
    const { pool, group } = this.#options;
    return key !== null && (await parkedAmong(pool, group, [{ topic, key }])).length > 0;
  }
}
