/**
 * The states of a saga's instance and of its steps, and the transitions between them; docs/SAGAS.md draws both tables (a test holds them
 * together).
 */

export const INSTANCE_TRANSITIONS = {
  /** Doing its steps, one after the other. */
  running: ['compensating', 'completed', 'stuck'],
  /** Undoing, last step first, what was done or may have been. */
  compensating: ['compensated', 'compensation_failed'],
  /**
   * A step past the point of no return was refused or does not answer, or a skipped one cannot be undone: waits for an operator, or for the
   * answer.
   */
  stuck: ['running'],
  /** An undo was refused or not answered, as often as it may be tried: waits for an operator, or for the answer. */
  compensation_failed: ['compensating'],
  /** Every step is done, or was skipped by an operator. Without a pivot, a late reply may show that a skipped one happened. */
  completed: ['running'],
  /** Everything that was done is undone. A reply that comes late may show that there was more. */
  compensated: ['compensating'],
} as const satisfies Record<string, readonly string[]>;

export const STEP_TRANSITIONS = {
  /** Its turn has not come. */
  pending: ['sent'],
  /** The command was sent; its reply is waited for. */
  sent: ['done', 'refused', 'unknown', 'skipped'],
  done: ['undoing'],
  /** The participant would not. Past the pivot an operator may try again. */
  refused: ['done', 'sent', 'skipped', 'unknown'],
  /** It may have happened: no reply came, nobody waited for one, or one came that says otherwise than before. It is to be undone. */
  unknown: ['undoing'],
  /** The compensation was sent; its reply is waited for. */
  undoing: ['undone', 'undo_failed', 'skipped', 'unknown'],
  /** Undone; a late reply may say that it happened. */
  undone: ['unknown'],
  undo_failed: ['undoing', 'undone', 'skipped', 'unknown'],
  /** An operator took it as settled; a late reply may say that it happened. */
  skipped: ['unknown'],
} as const satisfies Record<string, readonly string[]>;

export type InstanceState = keyof typeof INSTANCE_TRANSITIONS;
export type StepState = keyof typeof STEP_TRANSITIONS;

export const INSTANCE_STATES = Object.keys(INSTANCE_TRANSITIONS) as InstanceState[];
export const STEP_STATES = Object.keys(STEP_TRANSITIONS) as StepState[];

/** Nothing is under way and nothing is owed. */
export function isEnded(state: InstanceState): boolean {
  return state === 'completed' || state === 'compensated';
}

/** Only an operator, or an answer that nobody expects any more, moves it on. */
export function needsOperator(state: InstanceState): boolean {
  return state === 'stuck' || state === 'compensation_failed';
}

/** Throws on a transition that the table does not have: that is a bug, not a condition. */
export function checkInstanceTransition(from: InstanceState, to: InstanceState): void {
  const allowed: readonly string[] = INSTANCE_TRANSITIONS[from];
  if (!allowed.includes(to)) throw new Error(`a saga cannot go from ${from} to ${to}`);
}

/** As `checkInstanceTransition`, for a step. */
export function checkStepTransition(from: StepState, to: StepState): void {
  const allowed: readonly string[] = STEP_TRANSITIONS[from];
  if (!allowed.includes(to)) throw new Error(`a saga's step cannot go from ${from} to ${to}`);
}
