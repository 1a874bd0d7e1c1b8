/**
 * The states of a replay, and what an operator may do in each. `checking` looks through the whole selection and publishes nothing;
 * `running` publishes; `refused`: something of the selection cannot be published, and nothing was.
 */
export const REPLAY_STATES = ['checking', 'running', 'paused', 'completed', 'cancelled', 'refused'] as const;
export type ReplayState = (typeof REPLAY_STATES)[number];

/** With what each does, in a few words. */
export const REPLAY_ACTIONS = {
  pause: 'Stop a replay where it is, to go on later',
  resume: 'Go on with a paused replay',
  cancel: 'End a replay where it is; what it published stays',
} as const;
export type ReplayAction = keyof typeof REPLAY_ACTIONS;

/** docs/OPERATIONS.md draws it. */
export const TRANSITIONS: Readonly<Record<ReplayState, readonly ReplayState[]>> = {
  checking: ['running', 'paused', 'refused', 'cancelled'],
  running: ['paused', 'completed', 'cancelled'],
  paused: ['checking', 'running', 'cancelled'],
  completed: [],
  cancelled: [],
  refused: [],
};

export function hasEnded(state: ReplayState): boolean {
  return TRANSITIONS[state].length === 0;
}

/** The state that an action leads to, or null where the present one does not allow it. `checked`: the selection is known to fit. */
export function stateAfter(action: ReplayAction, state: ReplayState, checked: boolean): ReplayState | null {
  const next = { pause: 'paused', resume: checked ? 'running' : 'checking', cancel: 'cancelled' } as const;
  if (action === 'resume' && state !== 'paused') return null;
  return TRANSITIONS[state].includes(next[action]) ? next[action] : null;
}
