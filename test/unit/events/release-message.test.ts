import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeRelease, encodeRelease } from '../../../src/events/release-message.ts';

const text = fc.string({ unit: 'binary' });
const message = fc.record(
  {
    ...{ id: fc.uuid(), topic: fc.string({ minLength: 1 }), key: text, by: text },
    ...{ skip: fc.array(fc.uuid(), { maxLength: 3 }), event: fc.option(fc.uuid()) },
  },
  { noNullPrototype: true },
);

test('a release is read as it was written, whatever its key holds', () => {
  fc.assert(fc.property(message, (one) => assert.deepEqual(decodeRelease(encodeRelease(one)), one)));
});

test('what is no release of this version is null', () => {
  const id = '019b7c5e-8c00-7000-8000-000000000001';
  const whole = { v: 1, id, topic: 't', key: 'k', by: 'b' };
  assert.notEqual(decodeRelease(JSON.stringify(whole)), null);
  const others = [
    { ...whole, v: 2 },
    { ...whole, id: 'x' },
    { ...whole, key: null },
    { ...whole, topic: '' },
  ];
  const many = [
    { ...whole, events: [] },
    { ...whole, events: [id, id] },
    { ...whole, skip: ['x'] },
  ];
  for (const one of ['', '[', 'null', ...[...others, ...many].map((each) => JSON.stringify(each))]) {
    assert.equal(decodeRelease(one), null, one);
  }
});
