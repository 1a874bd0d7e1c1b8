/** Personal data out of payloads, those included that their schema refuses; and back into what somebody made of one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseExactJson } from '../../../src/kernel/exact-json.ts';
import { personalTexts, REDACTED, redact, redactText, unredact } from '../../../src/registry/redaction.ts';
import { parseSchema } from '../../../src/registry/schema-tree.ts';

const address = {
  type: 'record',
  name: 'Address',
  fields: [
    { name: 'street', type: 'string', 'ferry.pii': true },
    { name: 'country', type: 'string' },
  ],
};
const schema = parseSchema(
  JSON.stringify({
    type: 'record',
    name: 'Order',
    fields: [
      { name: 'id', type: 'long' },
      { name: 'email', type: ['null', 'string'], 'ferry.pii': true },
      { name: 'to', type: ['null', address] },
      { name: 'others', type: { type: 'array', items: 'Address' } },
      { name: 'notes', type: { type: 'map', values: ['string', 'Address'] } },
    ],
  }),
);
const order = {
  ...{ id: 9007199254740993n, email: 'ada@example.com', to: { street: 'Main 1', country: 'DE' } },
  ...{ others: [{ street: 'Side 2', country: 'FR' }], notes: { a: 'fine', b: { street: 'Back 3', country: 'IT' } } },
};

test('marked fields are taken out at every depth, and nothing else', () => {
  assert.deepEqual(redact(schema, order), {
    ...{ id: 9007199254740993n, email: REDACTED, to: { street: REDACTED, country: 'DE' } },
    ...{ others: [{ street: REDACTED, country: 'FR' }], notes: { a: 'fine', b: { street: REDACTED, country: 'IT' } } },
  });
  assert.deepEqual(redact(schema, { email: null, to: null }), { email: null, to: null });
});

test('of what the schema does not know nothing is shown', () => {
  const odd = { id: 'x', emial: 'ada@example.com', to: 'Main 1', others: { street: 'Side 2' }, notes: ['a'] };
  assert.deepEqual(redact(schema, odd), {
    id: 'x',
    emial: REDACTED,
    to: REDACTED,
    others: { street: REDACTED },
    notes: REDACTED,
  });
  assert.equal(redact(schema, 'ada'), REDACTED);
});

test('a text that quotes a payload keeps what is not personal, and loses what is, also in JSON’s form and within longer ones', () => {
  const personal = personalTexts(schema, {
    ...{ id: 17n, email: 'ada@example.com', to: { street: 'Main "1"', country: 'DE' } },
    ...{ others: [{ street: 'Main "1" A', country: 'FR' }, 'x'], notes: { a: 'fine' }, phone: 4930123n, age: 7n },
  });
  const quoting =
    'order 17 of ada@example.com, +4930123: no way from Main "1" A (DE) to {"street":"Main \\"1\\""}, age 7, fine';
  assert.equal(
    redactText(quoting, personal),
    'order 17 of [redacted], +[redacted]: no way from [redacted] (DE) to {"street":"[redacted]"}, age 7, fine',
  );
});

test('no personal text comes through, whatever the payload looks like', () => {
  const payload = fc.letrec((tie) => ({
    json: fc.oneof(
      { maxDepth: 4 },
      fc.constant('PERSONAL'),
      fc.array(tie('json'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom('email', 'street', 'unknown', 'to', 'others'), tie('json'), { maxKeys: 4 }),
    ),
  })).json;
  fc.assert(fc.property(payload, (value) => !JSON.stringify(redact(schema, value)).includes('PERSONAL')));
});

test('what reads redacted in an edited payload is what the original has there', () => {
  const edited = { ...(redact(schema, order) as object), id: 7 };
  assert.deepEqual(unredact(edited, order), { ...order, id: 7 });
  assert.deepEqual(unredact(parseExactJson('{"a":[1e400]}'), {}), parseExactJson('{"a":[1e400]}'));
  assert.throws(() => unredact({ 'a/b': [REDACTED] }, { 'a/b': [] }, '/payload'), {
    code: 'INVALID_REQUEST',
    message: /^\/payload\/a~1b\/0: /,
  });
});
