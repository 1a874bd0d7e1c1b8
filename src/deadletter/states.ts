/** The states of a dead letter, and which may follow which; drawn in docs/ARCHITECTURE.md. */
import { FerryError } from '../kernel/errors.ts';

export const DEAD_LETTER_STATES = ['open', 'replaying', 'resolved', 'discarded'] as const;
/**
 * `open`: it waits for an operator; `replaying`: its owner was asked, or is about to be, to take it up once more; `resolved`: its owner has
 * published or applied it; `discarded`: it will never be.
 */
export type DeadLetterState = (typeof DEAD_LETTER_STATES)[number];

/** Nothing leads from a state to another but these. Each says what has been seen, or decided. */
export const TRANSITIONS: Readonly<Record<DeadLetterState, readonly DeadLetterState[]>> = {
  // an operator decided; or the owner has dealt with it by itself (a copy that a crash left, a key released from elsewhere)
  open: ['replaying', 'discarded', 'resolved'],
  // the owner has done it, has failed again, or was told to leave it out after all
  replaying: ['resolved', 'open', 'discarded'],
  // the owner failed at it anew, after it had done it: it was replayed
  resolved: ['open'],
  // the owner had done it before it was told; or failed at it anew
  discarded: ['resolved', 'open'],
};

export function mayBecome(from: DeadLetterState, to: DeadLetterState): boolean {
  return TRANSITIONS[from].includes(to);
}

/** States that lead to `to`: what a statement that sets it may find. */
export function statesBefore(to: DeadLetterState): DeadLetterState[] {
  return DEAD_LETTER_STATES.filter((from) => mayBecome(from, to));
}

/** Throws CONFLICT naming the state if `action` needs another. */
export function requireTransition(id: string, from: DeadLetterState, to: DeadLetterState, action: string): void {
  if (mayBecome(from, to)) return;
  throw new FerryError('CONFLICT', `dead letter ${id} is ${from}: it cannot be ${action}`);
}
