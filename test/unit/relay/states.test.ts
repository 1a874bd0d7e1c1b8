/** The relay's states: the table's transitions and no others, and the same table in docs/ARCHITECTURE.md. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RELAY_STATES, type RelayState, RelayStateMachine, TRANSITIONS } from '../../../src/relay/states.ts';
import { quiet } from '../../support/relay-fixtures.ts';

const ARCHITECTURE = join(import.meta.dirname, '../../../docs/ARCHITECTURE.md');

const transitions = new Set(RELAY_STATES.flatMap((from) => TRANSITIONS[from].map((to) => `${from} → ${to}`)));

function machineIn(state: RelayState): RelayStateMachine {
  const machine = new RelayStateMachine(quiet.logger, quiet.metrics);
  for (const step of pathTo(state)) machine.to(step);
  assert.equal(machine.state, state);
  return machine;
}

/** The shortest way from `stopped`, which also shows that there is one. */
function pathTo(goal: RelayState): RelayState[] {
  const seen = new Set<RelayState>(['stopped']);
  for (let paths: RelayState[][] = [[]]; paths.length > 0; ) {
    const next: RelayState[][] = [];
    for (const path of paths) {
      const at = path.at(-1) ?? 'stopped';
      if (at === goal) return path;
      for (const to of TRANSITIONS[at]) {
        if (!seen.has(to)) next.push([...path, to]);
        seen.add(to);
      }
    }
    paths = next;
  }
  assert.fail(`${goal} cannot be reached`);
}

for (const from of RELAY_STATES) {
  test(`from ${from}: ${TRANSITIONS[from].join(', ')}, and nowhere else`, () => {
    for (const to of RELAY_STATES) {
      const machine = machineIn(from);
      if (from === to || transitions.has(`${from} → ${to}`)) {
        machine.to(to);
        assert.equal(machine.state, to);
      } else {
        assert.throws(() => machine.to(to), new RegExp(`cannot go from ${from} to ${to}`));
        assert.equal(machine.state, from);
      }
    }
  });
}

test('every state can end', () => {
  const stoppable = new Set<RelayState>(['stopped']);
  for (let grew = true; grew; ) {
    const more = RELAY_STATES.filter((state) => TRANSITIONS[state].some((to) => stoppable.has(to)));
    grew = more.some((state) => !stoppable.has(state));
    for (const state of more) stoppable.add(state);
  }
  assert.deepEqual([...stoppable].sort(), [...RELAY_STATES].sort());
});

test('the state is exported: 1 for the one that it is, 0 for each other', () => {
  const exported = new Map<string, number>();
  const relayState = { record: (value: number, { state }: { state: string }) => exported.set(state, value) };
  const machine = new RelayStateMachine(quiet.logger, { ...quiet.metrics, relayState: relayState as never });
  machine.to('connecting');
  assert.equal(exported.size, RELAY_STATES.length);
  assert.deepEqual([...exported].filter(([, value]) => value === 1), [['connecting', 1]]); // biome-ignore format: one thought
});

const diagram = existsSync(ARCHITECTURE)
  ? /```mermaid\s+stateDiagram[^\n]*\n([\s\S]*?)```/.exec(readFileSync(ARCHITECTURE, 'utf8'))
  : null;

test('docs/ARCHITECTURE.md draws exactly this table', {
  skip: diagram === null ? 'docs/ARCHITECTURE.md has no mermaid stateDiagram yet' : false,
}, () => {
  const drawn = new Set<string>();
  // mermaid's own names have no hyphens: `backing_off` and `backingOff` are drawn for backing-off; [*] is no state
  const plain = (name: string) => name.replaceAll('_', '-').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  for (const [, from = '', to = ''] of (diagram?.[1] ?? '').matchAll(/^\s*([\w-]+)\s*-->\s*([\w-]+)/gm)) {
    drawn.add(`${plain(from)} → ${plain(to)}`);
  }
  assert.deepEqual([...drawn].sort(), [...transitions].sort());
});
