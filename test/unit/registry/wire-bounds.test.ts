/** The bounds check: it accepts what was written, and nothing that was cut, lengthened or made up keeps it busy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EventSchema } from '../../../src/registry/event-schema.ts';
import { PayloadMismatch } from '../../../src/registry/payload-mismatch.ts';
import { WireWriter, wireSchemaId } from '../../../src/registry/wire-format.ts';

const writer = new WireWriter();
const schema = new EventSchema(42, {
  references: [],
  text: JSON.stringify({
    type: 'record',
    name: 'test.Event',
    fields: [
      { name: 'flag', type: 'boolean' },
      { name: 'count', type: 'long' },
      { name: 'text', type: ['null', 'string'] },
      { name: 'lines', type: { type: 'array', items: { type: 'map', values: 'double' } } },
      { name: 'nothing', type: { type: 'array', items: 'null' } },
      { name: 'colour', type: { type: 'enum', name: 'Colour', symbols: ['RED', 'GREEN'] } },
      { name: 'hash', type: { type: 'fixed', name: 'Hash', size: 4 } },
      { name: 'next', type: ['null', 'test.Event'] },
    ],
  }),
});

const events = fc.record({
  flag: fc.boolean(),
  count: fc.maxSafeInteger(),
  text: fc.option(fc.string({ unit: 'grapheme' })),
  lines: fc.array(
    fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), fc.constant(1.5), { noNullPrototype: true }),
  ),
  nothing: fc.array(fc.constant(null)),
  colour: fc.constantFrom('RED', 'GREEN'),
  hash: fc.constant('AAAAAA=='),
  next: fc.constant(null),
});

function refusalOf(bytes: Buffer): string {
  try {
    schema.check(bytes);
  } catch (thrown) {
    assert.ok(thrown instanceof PayloadMismatch, String(thrown));
    return `${thrown.path} ${thrown.expected}`;
  }
  assert.fail('accepted');
}

test('what was written passes; every cut of it, and every byte more, does not', () => {
  fc.assert(
    fc.property(events, (event) => {
      const bytes = schema.encode(JSON.stringify(event), writer);
      schema.check(bytes);
      for (let length = 5; length < bytes.length; length++) {
        assert.throws(() => schema.check(bytes.subarray(0, length)), PayloadMismatch);
      }
      assert.throws(() => schema.check(Buffer.concat([bytes, Buffer.alloc(1)])), PayloadMismatch);
    }),
    { numRuns: 200 },
  );
});

test('made-up bytes are decoded or refused, and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (body) => {
      const bytes = Buffer.concat([Buffer.from([0, 0, 0, 0, 42]), body]);
      try {
        schema.decode(bytes);
      } catch (thrown) {
        assert.ok(thrown instanceof PayloadMismatch, String(thrown));
      }
    }),
    { numRuns: 5_000 },
  );
});

test('flipped bits are decoded or refused, and never anything else', () => {
  fc.assert(
    fc.property(events, fc.nat(), fc.nat(7), (event, at, bit) => {
      const bytes = schema.encode(JSON.stringify(event), writer);
      const place = 5 + (at % (bytes.length - 5));
      bytes[place] = (bytes[place] ?? 0) ^ (1 << bit);
      try {
        schema.decode(bytes);
      } catch (thrown) {
        assert.ok(thrown instanceof PayloadMismatch, String(thrown));
      }
    }),
    { numRuns: 1_000 },
  );
});

const HEADER = [0, 0, 0, 0, 42];
const FLAG_COUNT_NO_TEXT = [1, 2, 0];

test('each broken byte is named with its place', () => {
  assert.match(refusalOf(Buffer.from([...HEADER, 2])), /^\/flag a boolean is neither/);
  assert.match(
    refusalOf(Buffer.from([...HEADER, 1, ...Array(10).fill(0xff)])),
    /^\/count an integer has more than 64 bits/,
  );
  assert.match(refusalOf(Buffer.from([...HEADER, 1, 2, 4])), /^\/text a union’s branch/);
  assert.match(refusalOf(Buffer.from([...HEADER, 1, 2, 2, 2, 0xff])), /^\/text a string is not UTF-8/);
  assert.match(refusalOf(Buffer.from([...HEADER, 1, 2, 2, 1])), /^\/text the bytes end too early/, 'a negative length');
  const proto = [...Buffer.from('__proto__')];
  const map = [2, 2, 18, ...proto, ...Buffer.alloc(8), 0, 0];
  assert.match(refusalOf(Buffer.from([...HEADER, ...FLAG_COUNT_NO_TEXT, ...map])), /^\/lines has a key/);
});

test('a count that no bytes stand for does not keep it busy', () => {
  const millions = [0x80, 0x80, 0x80, 0x80, 0x80, 0x40]; // an array of 2^40 nulls
  const bytes = Buffer.from([...HEADER, ...FLAG_COUNT_NO_TEXT, 0, ...millions]);
  assert.match(refusalOf(bytes), /^\/nothing more than 100000 items without content/);
});

test('blocks with sizes are read, and their sizes checked', () => {
  const bytes = Buffer.from([...HEADER, ...FLAG_COUNT_NO_TEXT, 1, 2, 0, 0, 0, 0, 1, 2, 3, 4, 0]);
  assert.deepEqual(schema.decode(bytes), {
    flag: true,
    count: 1,
    text: null,
    lines: [{}],
    nothing: [],
    colour: 'RED',
    hash: 'AQIDBA==',
    next: null,
  });
  bytes[9] = 4; // the block says two bytes
  assert.match(refusalOf(bytes), /^\/lines a block’s size/);
});

test('the header tells the schema id, and what has none', () => {
  assert.equal(wireSchemaId(Buffer.from([0, 0, 1, 0, 0])), 65_536);
  assert.equal(wireSchemaId(Buffer.from([0, 0, 1, 0])), null);
  assert.equal(wireSchemaId(Buffer.from([1, 0, 0, 0, 1])), null);
  assert.equal(wireSchemaId(Buffer.alloc(0)), null);
});
