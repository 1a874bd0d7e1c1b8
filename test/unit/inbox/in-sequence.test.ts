/** What has no place in an order is refused before the database is asked; the order itself is tried on it (test/integration). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyInSequence } from '../../../src/inbox/in-sequence.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { consumedEvent } from '../../support/consumed-events.ts';

const untouched: Queryable = { query: () => assert.fail('the database was asked') };
const never = () => assert.fail('it was applied');

test('an event without version, aggregate type or id is refused, and told which is missing', async () => {
  for (const [missing, changes] of [
    ['version', { aggregateVersion: null }],
    ['type', { aggregateType: null }],
    ['id', { aggregateId: null }],
  ] as const) {
    const event = consumedEvent(1, changes);
    await assert.rejects(applyInSequence(untouched, { group: 'g', event }, never), {
      code: 'EVENT_UNVERSIONED',
      message: new RegExp(`${event.id} has no aggregate ${missing}`),
    });
  }
});

test('a start that is no version is refused', async () => {
  const sequenced = { group: 'g', event: consumedEvent(1), startAt: 0n };
  await assert.rejects(applyInSequence(untouched, sequenced, never), RangeError);
});
