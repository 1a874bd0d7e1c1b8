/** Seals: what was sealed opens, and nothing else does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CONTROL_KEY_BYTES, controlPrefix, openControl, sealControl } from '../../../src/events/control-message.ts';

const key = fc
  .uint8Array({ minLength: CONTROL_KEY_BYTES, maxLength: CONTROL_KEY_BYTES })
  .map((bytes) => Buffer.from(bytes));
const body = fc.string({ unit: 'grapheme' });
const prefix = fc.constantFrom(
  controlPrefix('main', 'release'),
  controlPrefix('main', 'replay'),
  controlPrefix('other', 'release'),
);

test('what was sealed opens as it was', () => {
  fc.assert(
    fc.property(key, prefix, body, (k, p, text) => {
      assert.equal(openControl(k, p, sealControl(k, p, text)), text);
    }),
  );
});

test('with another key, under another prefix, or with any byte changed, added or missing it does not open', () => {
  fc.assert(
    fc.property(
      key,
      key,
      prefix,
      prefix,
      body,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (k, k2, p, p2, text, at, flip) => {
        const content = sealControl(k, p, text);
        if (!k.equals(k2)) assert.equal(openControl(k2, p, content), null);
        if (p !== p2) assert.equal(openControl(k, p2, content), null);
        const changed = Buffer.from(content);
        const place = at % changed.length;
        changed[place] = (changed[place] ?? 0) ^ flip;
        assert.equal(openControl(k, p, changed), null);
        assert.equal(openControl(k, p, content.subarray(0, place)), null);
        assert.equal(openControl(k, p, Buffer.concat([content, Buffer.from([flip])])), null);
      },
    ),
  );
});

test('prefix and body cannot be shifted into one another', () => {
  const k = Buffer.alloc(CONTROL_KEY_BYTES, 1);
  assert.equal(openControl(k, 'a', sealControl(k, 'ab', 'c')), null);
  assert.equal(openControl(k, 'ab', sealControl(k, 'a', 'bc')), null);
});
