/** Waiting in tests: for something that is seen, with a deadline, never for a time. */
import { DeadlineError, sleep, withDeadline } from '../../src/kernel/deadline.ts';

const DEFAULT_DEADLINE_MS = 90_000;
const LOOK_EVERY_MS = 20;

export interface WaitOptions {
  readonly deadlineMs?: number;
}

/**
 * Looks again and again until `look` gives something truthy, and resolves with that. Rejects with a DeadlineError that has the last failure
 * of `look` as its cause: for what announces itself nowhere, such as a row in another database.
 */
export async function waitUntil<T>(
  what: string,
  look: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const endsAt = performance.now() + deadlineMs;
  let failure: unknown;
  do {
    try {
      const seen = await withDeadline(what, Math.max(1, endsAt - performance.now()), Promise.resolve(look()));
      if (seen) return seen as Exclude<T, false | null | undefined | 0 | ''>;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    await sleep(LOOK_EVERY_MS);
  } while (performance.now() < endsAt);
  const timeout = new DeadlineError(what, deadlineMs);
  timeout.cause = failure;
  throw timeout;
}

/** Something that happens once: whoever waits is told, also when the wait begins after it happened. */
export class Signal<T = void> {
  readonly #settled = Promise.withResolvers<T>();

  constructor() {
    this.#settled.promise.catch(() => {}); // nobody may be waiting
  }

  fire(value: T): void {
    this.#settled.resolve(value);
  }

  /** It cannot happen any more: who waits is told why. */
  fail(reason: Error): void {
    this.#settled.reject(reason);
  }

  wait(what: string, options: WaitOptions = {}): Promise<T> {
    return withDeadline(what, options.deadlineMs ?? DEFAULT_DEADLINE_MS, this.#settled.promise);
  }
}
