/**
 * Releases parked keys: when an operator has asked for it, the events of a key that wait in the dead-letter topic are applied in their order,
 * and then the key's newer events go on. A crash in the middle costs nothing: what was applied stands in the inbox.
 */

import type { LogRecord } from '../kafka/log-reader.ts';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import type { Pool } from '../postgres/connection.ts';
import type { ResolvingDecoder } from '../registry/decoder.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Applier } from './applier.ts';
import { identityOf, isUnreadable, readEvent } from './consumed-event.ts';
import type { DeadLetters } from './dead-letters.ts';
import type { Failure } from './failure.ts';
import { type AnyHandler, readerOf } from './handler.ts';
import { parkAgain, type ReleasedKey, unpark } from './inbox-store.ts';
import type { RetryPolicy } from './processor.ts';

export interface ReleaserOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly decoder: ResolvingDecoder;
  readonly applier: Applier;
  readonly deadLetters: DeadLetters;
  readonly retry: RetryPolicy;
  readonly logger: Logger;
  readonly failPoint: FailPoint;
}

/** Why a release ended early. */
type Obstacle =
  | { readonly kind: 'away' }
  | { readonly kind: 'failed'; readonly code: string; readonly eventId: string };

export class Releaser {
  readonly #options: ReleaserOptions;

  constructor(options: ReleaserOptions) {
    this.#options = options;
  }

  /**
   * Applies what waits of a key, whose newer events nobody may take meanwhile. Resolves when the key is free, when an event still cannot be
   * applied (the key stays parked behind it), or when a part is away or the signal fired (the request stands). Rejects while Kafka or
   * Postgres is away.
   */
  async release(key: ReleasedKey, signal: AbortSignal): Promise<void> {
    const { deadLetters, pool, group, logger } = this.#options;
    let applied = 0;
    for await (const [record, at] of deadLetters.readParked(key, key.first)) {
      const obstacle = signal.aborted ? { kind: 'away' as const } : await this.#applyOne(record, key, signal);
      if (obstacle?.kind === 'away') return;
      if (obstacle?.kind === 'failed') {
        const { code: errorCode, eventId } = obstacle;
        await parkAgain(pool, group, key, { eventId, errorCode, at });
        logger.error({ group, topic: key.topic, eventId, code: errorCode, applied }, 'a released key is parked again');
        return;
      }
      applied += 1;
      this.#options.failPoint('inside-release');
    }
    if (await unpark(pool, group, key)) logger.info({ group, topic: key.topic, events: applied }, 'a key is released');
  }

  async #applyOne(record: LogRecord | null, key: ReleasedKey, signal: AbortSignal): Promise<Obstacle | null> {
    const { applier, decoder, handlers, retry } = this.#options;
    if (record === null) return { kind: 'failed', code: 'NOT_FOUND', eventId: key.eventId };
    const event = await readEvent(record, decoder, readerOf(handlers));
    if (event === null || identityOf(record) === null) return null; // no handler wants it any more, or it never held up anybody
    if (isUnreadable(event))
      return { kind: 'failed', code: event.code, eventId: identityOf(record)?.id ?? key.eventId };
    const handler = handlers.get(event.type);
    if (handler === undefined) return null;
    for (let attempt = 1; ; attempt++) {
      const outcome = await applier.applyParked({ event, handler, key: record.key }, attempt);
      if (outcome.kind === 'applied') return null;
      if (outcome.kind !== 'failed') return { kind: 'away' };
      const failure: Failure = outcome.failure;
      if (failure.kind === 'permanent' || attempt >= retry.maxTries || signal.aborted) {
        return signal.aborted ? { kind: 'away' } : { kind: 'failed', code: failure.code, eventId: event.id };
      }
      await sleep(backoffMs(attempt - 1, retry.baseMs, retry.maxMs), signal);
    }
  }
}
