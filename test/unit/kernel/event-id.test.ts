/** Event ids: only UUIDv7 passes, and its time can be read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { v4, v7 } from 'uuid';
import { eventIdTimeMs, isEventId } from '../../../src/kernel/event-id.ts';

test('a UUIDv7 carries its millisecond', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), (msecs) => {
      const id = v7({ msecs });
      assert.ok(isEventId(id));
      assert.equal(eventIdTimeMs(id), msecs);
    }),
  );
});

test('the example of RFC 9562 is read as the RFC says', () => {
  const id = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';
  assert.ok(isEventId(id));
  assert.equal(eventIdTimeMs(id), Date.UTC(2022, 1, 22, 19, 22, 22));
});

test('other versions, variants and spellings are none', () => {
  const id = v7();
  const others = [v4(), id.toUpperCase().replace(/^./, 'A'), `${id}0`, `{${id}}`, id.replaceAll('-', ''), ''];
  const otherVariant = `${id.slice(0, 19)}c${id.slice(20)}`;
  for (const text of [...others, otherVariant]) assert.ok(!isEventId(text), text);
});
