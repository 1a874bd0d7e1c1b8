/**
 * Carries out what operators have decided, and finds out what has become of it. The letter says first what is to be done; its owner (a consumer
 * group, or the relay) is told after that, as often as it takes; and a letter is resolved only when the owner's own database says so. A crash
 * between any two of these is made good by the next turn.
 */
import type { EventTiers } from '../config/tiers.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { Failures } from '../kernel/failures.ts';
import { Poller } from '../kernel/poller.ts';
import type { Pool } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { forgetRetries, groupFacts, knowsGroup, tellGroup } from './group-owner.ts';
import { forgetAsks, ownerRelay, parkedAmong, relayFacts, tellRelay } from './relay-owner.ts';
import type { DeadLetterState } from './states.ts';
import {
  discardedOfRelay,
  forgetSettled,
  type LetterToTell,
  type LetterToWatch,
  lettersToTell,
  lettersToWatch,
  markTold,
  measureStore,
  settle,
  settledTypes,
  untoldRetries,
} from './told-letters.ts';
import { groupVerdict, relayVerdict, type Verdict } from './verdict.ts';

/** A database in which inboxes of groups are, and an outbox with its relay. */
export interface OwnerDatabase {
  readonly pool: Pool;
  readonly relay: string;
}

export interface SettlementOptions {
  /** Of the store. */
  readonly pool: Pool;
  /** All that there are, the store's own first. */
  readonly databases: readonly OwnerDatabase[];
  readonly tiers: EventTiers;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'deadLettersWaiting' | 'deadLetterOldestAgeSeconds'>;
  readonly failPoint: FailPoint;
}

const TURN_MS = 1_000;
const TELL_AT_ONCE = 100;
const WATCH_AT_ONCE = 1_000;
const UPKEEP_MS = 60_000;
const MEASURE_MS = 10_000;
/** Of what owners were asked to do, after it was done. */
const KEEP_REQUESTS_DAYS = 7;
const FORGET_AT_ONCE = 10_000;
const FIRST_ID = '00000000-0000-0000-0000-000000000000';
const WATCHED: readonly DeadLetterState[] = ['replaying', 'open', 'discarded'];

export class Settlement {
  readonly #options: SettlementOptions;
  readonly #poller: Poller;
  /** Up to where the letters of a state were looked at in this round. */
  readonly #watched = new Map<DeadLetterState, string>();
  /** Up to where their owners were told in this round. */
  #told = FIRST_ID;
  /** Databases that gave no answer in this round, and why: each further question might take as long as a connection's time-out. */
  readonly #silent = new Map<OwnerDatabase, unknown>();
  /** Of this round. */
  #failures = new Failures();
  #upkeepAtMs = 0;
  #measureAtMs = 0;

  constructor(options: SettlementOptions) {
    this.#options = options;
    this.#poller = new Poller({
      turn: () => this.#turn(),
      onError: (err) => options.logger.warn({ err }, 'decisions about dead letters wait'),
    });
  }

  start(): void {
    this.#poller.start();
  }

  stop(): Promise<void> {
    return this.#poller.stop();
  }

  /** One look at everything that may have to be done; resolves with the pause that follows. Whatever fails keeps nothing else waiting. */
  async #turn(): Promise<number> {
    const more = await this.#failures.during('owners of dead letters cannot be told', () => this.#tell());
    for (const state of WATCHED) {
      await this.#failures.during(`${state} dead letters cannot be looked up`, () => this.#watch(state));
    }
    const nowMs = performance.now();
    if (nowMs >= this.#measureAtMs) {
      this.#measureAtMs = nowMs + MEASURE_MS;
      await this.#failures.during('dead letters cannot be counted', () => this.#measure());
    }
    if (nowMs >= this.#upkeepAtMs) {
      this.#upkeepAtMs = nowMs + UPKEEP_MS;
      await this.#failures.during('what was dealt with cannot be forgotten', () => this.#forget());
    }
    if (more === true) return 0; // a failure makes the next turn wait, which letters behind these must not
    this.#silent.clear();
    const failures = this.#failures;
    this.#failures = new Failures();
    failures.throwIfAny();
    return TURN_MS;
  }

  /** Tells the owners of some letters, and of those behind them the next time; resolves true if there are such. */
  async #tell(): Promise<boolean> {
    const { pool, failPoint } = this.#options;
    const letters = await lettersToTell(pool, this.#told, TELL_AT_ONCE);
    this.#told = nextAfter(letters, TELL_AT_ONCE);
    for (const letter of letters) {
      await this.#failures.during(`the owner of dead letter ${letter.id} cannot be told`, async () => {
        const lsn = letter.group === null ? await this.#tellRelay(letter) : await this.#tellGroup(letter, letter.group);
        failPoint('after-owner-asked');
        await markTold(pool, letter, lsn);
      });
    }
    return this.#told !== FIRST_ID;
  }

  async #tellGroup(letter: LetterToTell, group: string): Promise<null> {
    await tellGroup((await this.#databaseOf((db) => knowsGroup(db.pool, group))).pool, letter);
    return null;
  }

  async #tellRelay(letter: LetterToTell): Promise<string | null> {
    const { pool, relay } = await this.#databaseOf((db) => ownerRelay(db.pool, db.relay, letter.eventId));
    return tellRelay({ store: this.#options.pool, owner: pool, relay }, letter);
  }

  /** Rejects if one that cannot be asked may be the owner: then nobody else is told in its place. */
  async #databaseOf(isOwner: (database: OwnerDatabase) => Promise<boolean>): Promise<OwnerDatabase> {
    const { databases } = this.#options;
    const [own, ...others] = databases;
    if (own === undefined) throw new Error('no database is given');
    if (others.length === 0) return own;
    for (const database of databases) {
      if (this.#silent.has(database)) continue;
      try {
        if (await isOwner(database)) return database;
      } catch (thrown) {
        this.#silent.set(database, thrown);
      }
    }
    if (this.#silent.size > 0) throw [...this.#silent.values()][0];
    return own;
  }

  /** Some letters of a state; those behind them the next time. */
  async #watch(state: DeadLetterState): Promise<void> {
    const { pool, logger } = this.#options;
    const letters = await lettersToWatch(pool, state, this.#watched.get(state) ?? FIRST_ID, WATCH_AT_ONCE);
    this.#watched.set(state, nextAfter(letters, WATCH_AT_ONCE));
    for (const [letter, verdict] of await this.#verdicts(letters)) {
      if (verdict === null || !(await settle(pool, letter, verdict))) continue;
      const facts = { deadLetter: letter.id, eventId: letter.eventId, group: letter.group, from: letter.state };
      logger.info({ ...facts, to: verdict.state }, 'a dead letter has changed its state');
    }
  }

  /** Of the letters that a database which can be asked knows of. */
  async #verdicts(letters: readonly LetterToWatch[]): Promise<ReadonlyMap<LetterToWatch, Verdict>> {
    const verdicts = new Map<LetterToWatch, Verdict>();
    for (const database of this.#options.databases) {
      await this.#failures.during('a database cannot be asked what has become of dead letters', () =>
        addVerdicts(verdicts, database, letters),
      );
    }
    return verdicts;
  }

  async #forget(): Promise<void> {
    const { pool: store, databases, tiers } = this.#options;
    const untold = await untoldRetries(store);
    for (const { pool } of databases) {
      await this.#failures.during('what owners were asked to do cannot be forgotten', async () => {
        await forgetRetries(pool, KEEP_REQUESTS_DAYS);
        await forgetAsks(pool, KEEP_REQUESTS_DAYS, untold);
      });
    }
    const types = await settledTypes(store);
    const kept = new Map(types.map((type) => [type, tiers.of(type ?? '').days]));
    const discarded = await discardedOfRelay(store, kept);
    const parked: string[] = []; // of all databases: while one cannot be asked, nothing is forgotten that it may hold
    for (const { pool, relay } of databases) {
      if (discarded.length > 0) parked.push(...(await parkedAmong(pool, relay, discarded)));
    }
    await forgetSettled(store, kept, FORGET_AT_ONCE, parked);
  }

  async #measure(): Promise<void> {
    const { pool, metrics } = this.#options;
    const { open, replaying, oldestAgeSeconds } = await measureStore(pool);
    metrics.deadLettersWaiting.record(open, { state: 'open' });
    metrics.deadLettersWaiting.record(replaying, { state: 'replaying' });
    metrics.deadLetterOldestAgeSeconds.record(oldestAgeSeconds);
  }
}

/** Behind which letter the next ones are looked up: from the first again once there were less than were asked for. */
function nextAfter(letters: ReadonlyArray<{ readonly id: string }>, limit: number): string {
  return letters.length < limit ? FIRST_ID : (letters.at(-1)?.id ?? FIRST_ID);
}

async function addVerdicts(
  verdicts: Map<LetterToWatch, Verdict>,
  { pool, relay }: OwnerDatabase,
  letters: readonly LetterToWatch[],
): Promise<void> {
  const ofGroups = letters.filter(({ group }) => group !== null);
  const ofRelays = letters.filter(({ group }) => group === null);
  const byGroups = ofGroups.length === 0 ? null : await groupFacts(pool, ofGroups);
  for (const letter of ofGroups) {
    const facts = byGroups?.get(letter.id);
    if (facts !== undefined) verdicts.set(letter, groupVerdict(letter, facts));
  }
  const byRelay = ofRelays.length === 0 ? null : await relayFacts(pool, relay, ofRelays);
  for (const letter of ofRelays) {
    const facts = byRelay?.get(letter.id);
    if (facts !== undefined) verdicts.set(letter, relayVerdict(letter, facts));
  }
}
