/** The key of a call to an outside system: the same at every try and in every release, another for everything else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { idempotencyKey } from '../../../src/inbox/idempotency-key.ts';
import type { EventId } from '../../../src/kernel/event-id.ts';
import { eventId } from '../../support/relay-fixtures.ts';

test('the key never changes between releases: calls are repeated across them', () => {
  assert.equal(idempotencyKey('payments', eventId(1), 'charge'), 'fc06ab08-a604-548e-b825-38e6a73d7dec');
});

test('group, event and operation each make another key, and no two triples of names run together', () => {
  const name = fc.string({ unit: fc.constantFrom('a', '"', ',', '\\', '[', '\0', '\ud800', 'é'), maxLength: 4 });
  const names = fc.tuple(name, name, name);
  const keyOf = ([group, id, operation]: [string, string, string]) => idempotencyKey(group, id as EventId, operation);
  fc.assert(
    fc.property(names, names, (a, b) => {
      assert.equal(keyOf(a) === keyOf(b), JSON.stringify(a) === JSON.stringify(b));
    }),
  );
  assert.notEqual(idempotencyKey('ab', eventId(1), 'c'), idempotencyKey('a', eventId(1), 'bc'));
});
