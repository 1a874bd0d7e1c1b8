/** What the payment provider does wrong, on request: how often it fails, stays silent, or does what it was asked without saying so. */

/** Probabilities from 0 to 1, drawn anew for each request that changes something. */
export interface PaymentFaults {
  /** Answers 503 and does nothing. */
  readonly failureRate: number;
  /** Does nothing and never answers. */
  readonly timeoutRate: number;
  /** Does what it was asked, and cuts the connection instead of answering. */
  readonly lostAnswerRate: number;
  /** Does what it was asked, and answers 409 as if the request had come before. */
  readonly duplicateRate: number;
  /** Declines the charge: part of the keys, the same ones each time. */
  readonly declineRate: number;
}

export const NO_FAULTS: PaymentFaults = {
  failureRate: 0,
  timeoutRate: 0,
  lostAnswerRate: 0,
  duplicateRate: 0,
  declineRate: 0,
};

export type Fault = 'failure' | 'timeout' | 'lost-answer' | 'duplicate';

/** The faults with what `change` names; null if it names anything else, or no probability. */
export function changedFaults(faults: PaymentFaults, change: unknown): PaymentFaults | null {
  if (typeof change !== 'object' || change === null) return null;
  for (const [name, rate] of Object.entries(change)) {
    if (!(name in NO_FAULTS) || typeof rate !== 'number' || !(rate >= 0 && rate <= 1)) return null;
  }
  return { ...faults, ...change };
}

/** At most one fault; `random` is uniform in [0, 1). */
export function drawFault(faults: PaymentFaults, random: number): Fault | null {
  const { failureRate, timeoutRate, lostAnswerRate, duplicateRate } = faults;
  let below = 0;
  for (const [fault, rate] of [
    ['failure', failureRate],
    ['timeout', timeoutRate],
    ['lost-answer', lostAnswerRate],
    ['duplicate', duplicateRate],
  ] as const) {
    below += rate;
    if (random < below) return fault;
  }
  return null;
}
