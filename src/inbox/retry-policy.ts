/** How often an event is tried that a handler fails on, and how long between two tries. */

export interface RetryPolicy {
  /** Tries of one event in all, before it is dead-lettered. */
  readonly maxTries: number;
  /** Of an event type that has a number of its own, else null. */
  readonly triesOf?: (type: string) => number | null;
  readonly baseMs: number;
  readonly maxMs: number;
}

export function triesOf({ maxTries, triesOf: own }: RetryPolicy, type: string): number {
  return own?.(type) ?? maxTries;
}
