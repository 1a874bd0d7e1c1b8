/**
 * Releases parked keys: when an operator has asked for it, the events of a key that wait in the dead-letter topic are applied in their order,
 * and then the key's newer events go on. A crash in the middle costs nothing: what was applied stands in the inbox.
 */

import type { LogRecord } from '../kafka/log-reader.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import type { Pool } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { DeadLetters } from './dead-letters.ts';
import { TOO_OLD } from './horizon.ts';
import {
  claimParked,
  type InboxEntry,
  inboxState,
  isParked,
  parkAgain,
  type ReleasedKey,
  unpark,
} from './inbox-store.ts';
import type { Obstacle, SetAsideEvents } from './set-aside-events.ts';

export interface ReleaserOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly setAside: SetAsideEvents;
  readonly deadLetters: DeadLetters;
  readonly logger: Logger;
  readonly failPoint: FailPoint;
}

export class Releaser {
  readonly #options: ReleaserOptions;

  constructor(options: ReleaserOptions) {
    this.#options = options;
  }

  /**
   * Applies what waits of a key, whose newer events nobody may take meanwhile. Resolves when the key is free, when an event still cannot be
   * applied or is gone (the key stays parked behind it), or when a part is away or the signal fired (the request stands). Rejects while Kafka
   * or Postgres is away.
   */
  async release(key: ReleasedKey, signal: AbortSignal): Promise<void> {
    const { deadLetters, pool, group, logger } = this.#options;
    if (!(await deadLetters.hasFirst(key, key.first)) && (await this.#isLost(key))) return;
    const passed = new Set<string>(); // a crash may have left an event twice
    for await (const { record, entry, at } of deadLetters.readParked(key, key.first)) {
      if (signal.aborted) return;
      if (entry === null) continue;
      const obstacle = await this.#applyOne(record, entry, signal);
      if (obstacle?.kind === 'away') return;
      if (obstacle?.kind === 'failed') {
        const { code: errorCode } = obstacle;
        await parkAgain(pool, group, key, { eventId: entry.id, errorCode, at, passed: passed.size });
        const place = { group, topic: key.topic, eventId: entry.id, code: errorCode };
        logger.error({ ...place, released: passed.size }, 'a released key is parked again');
        return;
      }
      passed.add(entry.id);
      this.#options.failPoint('inside-release');
    }
    if (!(await unpark(pool, group, key))) return;
    const facts = { group, topic: key.topic, released: passed.size };
    const missing = key.events - BigInt(passed.size);
    if (missing <= 0n) logger.info(facts, 'a key is released');
    else
      logger.error(
        { ...facts, missing: String(missing) },
        `a key is released without events of it whose dead letters are gone from ${deadLetters.topic}: replay those with --new-ids`,
      );
  }

  /**
   * The first letter of a key is gone from its topic (deleted, or the topic was made anew). While its event waits, the key stays parked:
   * freed, its newer events would be applied without it. Resolves false once an operator has discarded that event.
   */
  async #isLost(key: ReleasedKey): Promise<boolean> {
    const { pool, group, deadLetters, logger } = this.#options;
    const { eventId, topic, first: at } = key;
    if (!(await isParked(pool, group, eventId))) return false;
    await parkAgain(pool, group, key, { eventId, errorCode: 'NOT_FOUND', at, passed: 0 });
    const place = {
      group,
      topic,
      eventId,
      partition: at.partition,
      offset: String(at.offset),
      waiting: String(key.events),
    };
    logger.error(
      place,
      `dead letters of a released key are gone from ${deadLetters.topic}: it stays parked. Release it with --discard to go on with what is left of them, and replay those that are lost with --new-ids`,
    );
    return true;
  }

  async #applyOne(record: LogRecord | null, entry: InboxEntry, signal: AbortSignal): Promise<Obstacle | null> {
    const { setAside, pool, group } = this.#options;
    const state = await inboxState(pool, group, entry);
    if (state === 'forgotten') await this.#reportForgotten(record, entry);
    if (state !== 'parked') return null;
    const end = await setAside.apply(entry, record, (tx) => claimParked(tx, group, entry), signal);
    return end.kind === 'failed' || end.kind === 'away' ? end : null; // what no handler wants any more holds up nobody
  }

  /** The key waited for longer than the inbox remembers: nobody can tell whether the event was applied in a release that was cut short. */
  async #reportForgotten(record: LogRecord | null, { id: eventId }: InboxEntry): Promise<void> {
    const { deadLetters, logger, group } = this.#options;
    logger.error({ group, eventId, code: TOO_OLD.code }, 'an event of a released key is not applied');
    if (record === null) return;
    const { code, type, message } = TOO_OLD;
    const failure = { code, type, message };
    await deadLetters.send([
      { record, failure, retries: 0, firstFailedAtMs: Date.now(), replayable: false, blockedBy: null },
    ]);
  }
}
