/** The tables of a saga's states: each transition tried, every state reachable, and docs/SAGAS.md draws exactly these. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, test } from 'node:test';
import {
  checkInstanceTransition,
  checkStepTransition,
  INSTANCE_STATES,
  INSTANCE_TRANSITIONS,
  isEnded,
  needsOperator,
  STEP_STATES,
  STEP_TRANSITIONS,
} from '../../../src/saga/states.ts';

const PAGE = resolve(import.meta.dirname, '../../../docs/SAGAS.md');
const drawings = [...readFileSync(PAGE, 'utf8').matchAll(/```mermaid\s+stateDiagram[^\n]*\n([\s\S]*?)```/g)];

interface Table {
  readonly states: readonly string[];
  readonly transitions: Readonly<Record<string, readonly string[]>>;
  readonly check: (from: string, to: string) => void;
  readonly initial: readonly string[];
  readonly drawing: string;
}

const tables: Record<string, Table> = {
  'an instance': {
    states: INSTANCE_STATES,
    transitions: INSTANCE_TRANSITIONS,
    check: checkInstanceTransition as Table['check'],
    initial: ['running'],
    drawing: drawings[0]?.[1] ?? '',
  },
  'a step': {
    states: STEP_STATES,
    transitions: STEP_TRANSITIONS,
    check: checkStepTransition as Table['check'],
    initial: ['pending', 'done'], // a step without a command is done from the start
    drawing: drawings[1]?.[1] ?? '',
  },
};

for (const [what, { states, transitions, check, initial, drawing }] of Object.entries(tables)) {
  describe(what, () => {
    for (const from of states) {
      test(`from ${from}: ${transitions[from]?.join(', ') || 'nowhere'}, and nowhere else`, () => {
        for (const to of states) {
          if (transitions[from]?.includes(to)) check(from, to);
          else assert.throws(() => check(from, to), new RegExp(`cannot go from ${from} to ${to}$`));
        }
      });
    }

    test('can come to every state', () => {
      const reached = new Set<string>(initial);
      for (const from of reached) for (const to of transitions[from] ?? []) reached.add(to);
      assert.deepEqual([...reached].sort(), [...states].sort());
    });

    test('is drawn as its table says', () => {
      const drawn = [...drawing.matchAll(/^\s*(\w+)\s*-->\s*(\w+)/gm)].map(([, from, to]) => `${from} → ${to}`);
      const table = states.flatMap((from) => (transitions[from] ?? []).map((to) => `${from} → ${to}`));
      assert.deepEqual(drawn.sort(), table.sort());
    });
  });
}

test('every state of an instance leads to an end, if only by an operator', () => {
  const ending = new Set<string>(INSTANCE_STATES.filter(isEnded));
  for (let grew = true; grew; ) {
    const more = INSTANCE_STATES.filter(
      (state) => !ending.has(state) && INSTANCE_TRANSITIONS[state].some((to) => ending.has(to)),
    );
    for (const state of more) ending.add(state);
    grew = more.length > 0;
  }
  assert.equal(ending.size, INSTANCE_STATES.length);
  assert.deepEqual(INSTANCE_STATES.filter(needsOperator), ['stuck', 'compensation_failed']);
});
