/** The states of a dead letter: the table is the drawing in docs/ARCHITECTURE.md, and nothing else is allowed. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  DEAD_LETTER_STATES,
  mayBecome,
  requireTransition,
  statesBefore,
  TRANSITIONS,
} from '../../../src/deadletter/states.ts';

test('are drawn as they are', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../docs/ARCHITECTURE.md'), 'utf8');
  const section = text.slice(text.indexOf('## The states of a dead letter'));
  const drawing = /```mermaid\n([^`]*)```/.exec(section)?.[1] ?? '';
  const drawn = [...drawing.matchAll(/(\w+) --> (\w+)/g)].map(([, from, to]) => `${from} → ${to}`).sort();
  const table = Object.entries(TRANSITIONS)
    .flatMap(([from, targets]) => targets.map((to) => `${from} → ${to}`))
    .sort();
  assert.deepEqual(drawn, table);
});

test('an operator decides about what is open, and about nothing else', () => {
  for (const from of DEAD_LETTER_STATES) {
    for (const to of ['replaying', 'discarded'] as const) {
      const decide = () => requireTransition('x', from, to, 'retried');
      if (mayBecome(from, to)) assert.doesNotThrow(decide);
      else assert.throws(decide, { code: 'CONFLICT', message: `dead letter x is ${from}: it cannot be retried` });
    }
  }
  assert.deepEqual(statesBefore('replaying'), ['open']);
});

test('each can be reached from open, and left or ended', () => {
  const reached = new Set(['open']);
  for (const state of reached) for (const to of TRANSITIONS[state as 'open']) reached.add(to);
  assert.deepEqual(reached, new Set(DEAD_LETTER_STATES));
});
