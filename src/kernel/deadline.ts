/** Waiting with an end: every wait in Ferry has one. */
import { setTimeout as delay } from 'node:timers/promises';

/** Thrown when something did not happen in time; `what` says what was waited for. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
  readonly timeoutMs: number;
  constructor(what: string, timeoutMs: number) {
    super(`${what} did not happen within ${timeoutMs} ms`);
    this.timeoutMs = timeoutMs;
  }
}

/**
 * Settles as `work` does, or rejects with a DeadlineError after `timeoutMs`. The work itself is not cancelled: whoever calls this
 * must be able to throw away what it was using (a connection, a producer).
 */
export async function withDeadline<T>(what: string, timeoutMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineError(what, timeoutMs)), timeoutMs);
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
    work.catch(() => {}); // lost the race: its late failure must not become an unhandled rejection
  }
}

/** Calls `act` when the signal fires, at once if it has fired: it tells nobody any more then. Returns how to take that back. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

/** Settles as `work` does, or rejects with the signal's reason when it fires. As above, the work itself is not cancelled. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const forget = onAbort(signal, () => aborted.reject(signal.reason));
  try {
    return await Promise.race([aborted.promise, work]);
  } finally {
    forget();
    work.catch(() => {}); // it may fail after the race is over
  }
}

/** Sleeps, or returns early when the signal fires; returns false when it was cut short. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<boolean> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
    return true;
  } catch {
    return false;
  }
}

/** Delay before attempt `attempt` (0, 1, 2, …): exponential with full jitter, in milliseconds (AWS Architecture Blog, 2015). */
export function backoffMs(attempt: number, baseMs: number, maxMs: number): number {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.ceil(ceiling / 2 + (Math.random() * ceiling) / 2);
}

/** Never settles. */
export function never(): Promise<never> {
  return new Promise(() => {});
}
