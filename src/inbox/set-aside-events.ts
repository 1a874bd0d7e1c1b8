/**
 * Applies single events that were set aside, outside of the queues: as an operator has edited them, with the group's handlers, and as often as the
 * policy of retries says.
 */
import type { LogRecord } from '../kafka/log-reader.ts';
import { backoffMs, sleep } from '../kernel/deadline.ts';
import type { Pool } from '../postgres/connection.ts';
import type { DiscreetDecoder } from '../registry/decoder.ts';
import type { Applier, Claim } from './applier.ts';
import { isUnreadable, readEvent } from './consumed-event.ts';
import { withoutPersonalData } from './discreet-failure.ts';
import { type AnyHandler, readerOf } from './handler.ts';
import type { InboxEntry } from './inbox-store.ts';
import { type RetryPolicy, triesOf } from './retry-policy.ts';
import { patchedValue } from './retry-store.ts';

/** Why an event was not applied. `away`: a part of ours, or this member, is going away; nothing is said about the event. */
export type Obstacle =
  | { readonly kind: 'away' }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string };

export interface SetAsideEventsOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly decoder: DiscreetDecoder;
  readonly applier: Applier;
  readonly retry: RetryPolicy;
}

export class SetAsideEvents {
  readonly #options: SetAsideEventsOptions;

  constructor(options: SetAsideEventsOptions) {
    this.#options = options;
  }

  /**
   * Applies the event of a record (null: it is gone from its topic, and with it the headers that an edited value has none of) if `claimIt` gets
   * it; `settled` says only that it needs to be applied no more. Rejects while Postgres or the registry is away.
   */
  async apply(
    { id }: InboxEntry,
    record: LogRecord | null,
    claimIt: Claim,
    signal: AbortSignal,
  ): Promise<Obstacle | { readonly kind: 'settled' | 'unwanted' }> {
    const { pool, group, applier, decoder, handlers, retry } = this.#options;
    if (record === null) return { kind: 'failed', code: 'NOT_FOUND', message: 'the record is gone from its topic' };
    const value = (await patchedValue(pool, group, id)) ?? record.value;
    const event = await readEvent({ ...record, value }, decoder, readerOf(handlers));
    if (event === null) return { kind: 'unwanted' };
    if (isUnreadable(event)) return { kind: 'failed', ...event };
    const handler = handlers.get(event.type);
    if (handler === undefined) return { kind: 'unwanted' };
    for (let attempt = 1; ; attempt++) {
      const outcome = await applier.applySetAside({ event, handler, key: record.key }, attempt, claimIt);
      if (outcome.kind === 'applied') return { kind: 'settled' };
      if (outcome.kind !== 'failed' || signal.aborted) return { kind: 'away' };
      const { failure } = outcome;
      if (failure.kind === 'permanent' || attempt >= triesOf(retry, event.type)) {
        const { code, message } = await withoutPersonalData(failure, value, decoder);
        return { kind: 'failed', code, message };
      }
      await sleep(backoffMs(attempt - 1, retry.baseMs, retry.maxMs), signal);
    }
  }
}
