/** Which states lead where, and what an operator may do in each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  hasEnded,
  REPLAY_ACTIONS,
  REPLAY_STATES,
  type ReplayAction,
  stateAfter,
  TRANSITIONS,
} from '../../../src/replay/states.ts';

const actions = Object.keys(REPLAY_ACTIONS) as ReplayAction[];

test('what has ended stays so', () => {
  assert.deepEqual(REPLAY_STATES.filter(hasEnded), ['completed', 'cancelled', 'refused']);
  for (const state of REPLAY_STATES.filter(hasEnded)) {
    for (const action of actions) assert.equal(stateAfter(action, state, true), null);
  }
});

test('an action leads only where the table says', () => {
  for (const state of REPLAY_STATES) {
    for (const action of actions) {
      for (const checked of [true, false]) {
        const next = stateAfter(action, state, checked);
        assert.ok(next === null || TRANSITIONS[state].includes(next), `${action} in ${state}`);
      }
    }
  }
});

test('a paused replay goes on where it was: in its check, or behind it', () => {
  assert.equal(stateAfter('resume', 'paused', false), 'checking');
  assert.equal(stateAfter('resume', 'paused', true), 'running');
  assert.equal(stateAfter('resume', 'running', true), null);
  assert.equal(stateAfter('pause', 'paused', true), null);
});
