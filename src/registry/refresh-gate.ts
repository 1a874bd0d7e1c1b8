/**
 * Keeps questions to the registry few: per key one request at a time, and at most one a second. Whoever asks gets an answer that was
 * requested after asking, because an older one may have missed a schema that was pushed in between; so a caller within the second
 * waits for the next request, which all callers share. A flood of bad events must not make the relay wait a second for each: after
 * three requests in a row that taught nothing, the last answer counts for the rest of its second.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  nowMs(): number;
  sleep(ms: number): Promise<unknown>;
}

export const systemClock: Clock = { nowMs: () => performance.now(), sleep: (ms) => delay(ms) };

export const REFRESH_INTERVAL_MS = 1_000;
const FRUITLESS_LIMIT = 3;
/** Keys derive from what writers choose (types, ids): forget the oldest beyond this many. */
const MAX_KEYS = 10_000;

interface Entry {
  startedAtMs: number;
  inFlight: Promise<boolean> | null;
  /** The request that callers wait for while another is in flight or the second is not over. */
  next: Promise<boolean> | null;
  fruitless: number;
  failure: unknown;
}

export class RefreshGate {
  readonly #entries = new Map<string, Entry>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Runs `request`, or shares the one that another caller is about to run. Resolves with what it resolved: whether something was
   * learnt; true also when `satisfied` says that an earlier request taught it. Rejects as the request does. `freshSinceMs`: only a request
   * started since then counts, whatever those before it taught.
   */
  async run(
    key: string,
    request: () => Promise<boolean>,
    satisfied: () => boolean,
    freshSinceMs?: number,
  ): Promise<boolean> {
    const entry = this.#entry(key);
    if (entry.inFlight !== null) {
      await entry.inFlight;
      if (satisfied()) return true;
    }
    if (entry.next !== null) return entry.next;
    const waitMs = entry.startedAtMs + REFRESH_INTERVAL_MS - this.#clock.nowMs();
    if (entry.inFlight === null && waitMs <= 0) return this.#start(entry, request);
    if (freshSinceMs === undefined) {
      if (entry.failure !== null) throw entry.failure;
      if (entry.fruitless >= FRUITLESS_LIMIT) return false;
    } else if (entry.failure === null && entry.startedAtMs > freshSinceMs) return false;
    entry.next = this.#later(entry, waitMs, request);
    return entry.next;
  }

  #entry(key: string): Entry {
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const oldest = this.#entries.keys().next();
    if (this.#entries.size >= MAX_KEYS && !oldest.done) this.#entries.delete(oldest.value);
    const startedAtMs = Number.NEGATIVE_INFINITY;
    const entry: Entry = { startedAtMs, inFlight: null, next: null, fruitless: 0, failure: null };
    this.#entries.set(key, entry);
    return entry;
  }

  async #later(entry: Entry, waitMs: number, request: () => Promise<boolean>): Promise<boolean> {
    await this.#clock.sleep(waitMs);
    await entry.inFlight?.catch(() => {}); // its own callers hear of it
    entry.next = null;
    return this.#start(entry, request);
  }

  #start(entry: Entry, request: () => Promise<boolean>): Promise<boolean> {
    const now = this.#clock.nowMs();
    if (now - entry.startedAtMs > 10 * REFRESH_INTERVAL_MS) entry.fruitless = 0;
    entry.startedAtMs = now;
    entry.inFlight = this.#observe(entry, request);
    return entry.inFlight;
  }

  async #observe(entry: Entry, request: () => Promise<boolean>): Promise<boolean> {
    try {
      const learnt = await request();
      entry.fruitless = learnt ? 0 : entry.fruitless + 1;
      entry.failure = null;
      return learnt;
    } catch (thrown) {
      entry.failure = thrown;
      throw thrown;
    } finally {
      entry.inFlight = null;
    }
  }
}
