/**
 * Brings events that cannot be applied to the group's dead-letter topic, and notes it in the inbox. The record is appended first: a crash
 * between the two leaves a second copy of it in the topic, never none, and whoever reads it finds the same event id.
 */
import type { FailPoint } from '../kernel/fail-point.ts';
import type { Pool } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { DiscreetDecoder } from '../registry/decoder.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type ConsumedEvent, identityOf } from './consumed-event.ts';
import type { DeadLetter, DeadLetters } from './dead-letters.ts';
import { withoutPersonalData } from './discreet-failure.ts';
import type { Failure } from './failure.ts';
import type { Horizon } from './horizon.ts';
import { claim, countFollowers, type InboxEntry, known, park } from './inbox-store.ts';
import type { QueuedRecord } from './key-scheduler.ts';

/** What becomes of a key whose event could not be applied: `park` lets the later ones follow it, so that their order is kept. */
export type PoisonPolicy = 'park' | 'dead-letter';

export interface PoisonRecord {
  readonly queued: QueuedRecord;
  readonly failure: Failure;
  /** Null when no event could be made of the record, or the inbox cannot tell whether it was applied. */
  readonly event: ConsumedEvent | null;
}

export interface PoisonOptions {
  readonly pool: Pool;
  readonly group: string;
  readonly policy: PoisonPolicy;
  readonly deadLetters: DeadLetters;
  readonly decoder: Pick<DiscreetDecoder, 'personalTexts'>;
  readonly horizon: Horizon;
  readonly metrics: Pick<Metrics, 'consumerDeadLettersTotal'>;
  readonly failPoint: FailPoint;
}

export class PoisonDesk {
  readonly #options: PoisonOptions;

  constructor(options: PoisonOptions) {
    this.#options = options;
  }

  /** Resolves with those whose key is parked now. Rejects while Kafka or Postgres is away; repeat it then. */
  async deadLetter(poisoned: readonly PoisonRecord[]): Promise<Array<{ queued: QueuedRecord; eventId: string }>> {
    const { group, policy, deadLetters, pool, metrics } = this.#options;
    const letters = await Promise.all(poisoned.map((one) => this.#letterOf(one)));
    const positions = await deadLetters.send(letters);
    this.#options.failPoint('after-dead-letter-before-inbox');
    const parked: Array<{ queued: QueuedRecord; eventId: string }> = [];
    await transaction(pool, async (tx) => {
      parked.length = 0;
      for (const [i, { queued, failure }] of poisoned.entries()) {
        const entry = this.#entryOf(queued);
        const first = positions[i];
        if (entry === null || first === undefined) continue;
        const { topic, partition, key } = queued.record;
        const parks = policy === 'park' && key !== null && key.length <= MAX_PARKED_KEY_BYTES;
        const claimed = await claim(tx, group, [entry], parks ? 'parked' : 'dead-lettered');
        if (!parks || claimed.size === 0) continue; // another member has dealt with it meanwhile
        const cause = { eventId: entry.id, errorCode: failure.code };
        await park(tx, group, { topic, partition, key, ...cause, events: 1, first });
        parked.push({ queued, eventId: entry.id });
      }
    });
    for (const { failure } of poisoned) metrics.consumerDeadLettersTotal.add(1, { group, cause: causeOf(failure) });
    return parked;
  }

  /**
   * Events of one parked key, which follow `blockedBy`. Those that the inbox has are left out. False if the key is parked no more: then none
   * of them is, and what was written of them to the dead-letter topic holds up nobody. Rejects as `deadLetter` does.
   */
  async follow(records: readonly QueuedRecord[], blockedBy: string): Promise<boolean> {
    const { group, deadLetters, pool, metrics } = this.#options;
    const entries = records.map((queued) => ({ queued, entry: this.#entryOf(queued) }));
    const listed = entries.flatMap(({ entry }) => (entry === null ? [] : [entry]));
    const dealtWith = listed.length === 0 ? new Set<string>() : await known(pool, group, listed);
    const open = entries.filter(({ entry }) => entry === null || !dealtWith.has(entry.id));
    const source = open[0]?.queued.record;
    if (source === undefined || source.key === null) return true;
    await deadLetters.send(open.map(({ queued }) => followerOf(queued, blockedBy)));
    this.#options.failPoint('after-dead-letter-before-inbox');
    const { topic, key } = source;
    const followers = open.flatMap(({ entry }) => (entry === null ? [] : [entry]));
    const stillParked = await transaction(pool, async (tx) => {
      // The row first: whoever releases the key at this moment either sees that more wait, or has removed it.
      if (!(await countFollowers(tx, group, { topic, key }, 0))) return false;
      const claimed = await claim(tx, group, followers, 'parked');
      await countFollowers(tx, group, { topic, key }, claimed.size);
      return true;
    });
    if (stillParked) metrics.consumerDeadLettersTotal.add(open.length, { group, cause: 'blocked' });
    return stillParked;
  }

  async #letterOf({ queued, failure, event }: PoisonRecord): Promise<DeadLetter> {
    const { record, failures, firstFailedAtMs } = queued;
    const { code, type, message, stack } = failure;
    const told = { code, type, message, ...(stack === '' ? {} : { stack }) };
    return {
      record,
      // without an event no handler was called
      failure: event === null ? told : await withoutPersonalData(told, record.value, this.#options.decoder),
      retries: Math.max(0, failures - 1),
      firstFailedAtMs: firstFailedAtMs === 0 ? Date.now() : firstFailedAtMs,
      replayable: failure.kind !== 'permanent',
      blockedBy: null,
    };
  }

  /** Null for what the inbox cannot hold: no event id, too old, or of a time to come. It is in the dead-letter topic only, and holds up nobody. */
  #entryOf({ record }: QueuedRecord): InboxEntry | null {
    const identity = identityOf(record);
    return identity === null || this.#options.horizon.refusalOf(identity.recordedAt) !== null ? null : identity;
  }
}

/** Longer keys do not fit into an index of Postgres (2,704 bytes, group and topic included): their order is not kept. */
const MAX_PARKED_KEY_BYTES = 1_024;

function followerOf({ record }: QueuedRecord, blockedBy: string): DeadLetter {
  const message = `an earlier event of this key (${blockedBy}) is parked`;
  const failure = { code: 'KEY_PARKED', type: 'KeyParked', message };
  return { record, failure, retries: 0, firstFailedAtMs: Date.now(), replayable: true, blockedBy };
}

/** A closed set, for a metric. */
function causeOf({ code, type }: Failure): 'unreadable' | 'too-old' | 'failed' {
  if (code === 'TOO_OLD_TO_DEDUPE') return 'too-old';
  return type === 'UnreadableRecord' ? 'unreadable' : 'failed';
}
