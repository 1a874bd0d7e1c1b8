/**
 * The JSON codec: any value of any schema goes to Avro and comes back as it was; avsc itself is the judge of the bytes in between.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import avsc from 'avsc';
import fc from 'fast-check';
import { stringifyExactJson } from '../../../src/kernel/exact-json.ts';
import { EventSchema } from '../../../src/registry/event-schema.ts';
import { PayloadMismatch } from '../../../src/registry/payload-mismatch.ts';
import { WIRE_HEADER_BYTES, WireWriter } from '../../../src/registry/wire-format.ts';

const writer = new WireWriter();

function recordOf(...fields: object[]): EventSchema {
  const text = JSON.stringify({ type: 'record', name: 'test.Event', fields });
  return new EventSchema(7, { text, references: [] });
}

/** A schema with one field `v` of the type. */
function holding(type: unknown): EventSchema {
  return recordOf({ name: 'v', type });
}

function roundTrip(schema: EventSchema, value: unknown): unknown {
  return schema.decode(schema.encode(stringifyExactJson(value), writer));
}

function refusalOf(schema: EventSchema, json: string): string {
  try {
    schema.encode(json, writer);
  } catch (thrown) {
    assert.ok(thrown instanceof PayloadMismatch, String(thrown));
    return `${thrown.path} ${thrown.expected}`;
  }
  assert.fail(`accepted ${json}`);
}

// --- any schema, any value

interface Sample {
  readonly type: unknown;
  readonly value: fc.Arbitrary<unknown>;
}

const INT64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const long = fc
  .oneof(fc.bigInt(INT64), fc.maxSafeInteger().map(BigInt))
  .map((n) => (Number.isSafeInteger(Number(n)) ? Number(n) : n));
const iso = (digits: number) =>
  fc
    .tuple(fc.integer({ min: -62_167_219_200, max: 253_402_300_799 }), fc.nat(10 ** digits - 1))
    .map(([s, f]) => `${new Date(s * 1000).toISOString().slice(0, 19)}.${String(f).padStart(digits, '0')}`);
const money = fc.bigInt({ min: -(10n ** 18n) + 1n, max: 10n ** 18n - 1n }).map((unscaled) => {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(3, '0');
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, -2)}.${digits.slice(-2)}`;
});
const text = fc.string({ unit: 'grapheme', maxLength: 200 });
const base64 = (size: object) => fc.uint8Array(size).map((bytes) => Buffer.from(bytes).toString('base64'));

let names = 0;
const named = (make: (name: string) => object): object => make(`N${names++}`);

const scalars: Sample[] = [
  { type: 'null', value: fc.constant(null) },
  { type: 'boolean', value: fc.boolean() },
  { type: 'int', value: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
  { type: 'long', value: long },
  { type: 'float', value: fc.float({ noNaN: true, noDefaultInfinity: true }).map((n) => n + 0) },
  { type: 'double', value: fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => n + 0) },
  { type: 'double', value: fc.constantFrom('NaN', 'Infinity', '-Infinity') },
  { type: 'string', value: text },
  { type: 'bytes', value: base64({ maxLength: 100 }) },
  { type: { type: 'bytes', logicalType: 'decimal', precision: 18, scale: 2 }, value: money },
  { type: { type: 'long', logicalType: 'timestamp-millis' }, value: iso(3).map((t) => `${t}Z`) },
  { type: { type: 'long', logicalType: 'timestamp-micros' }, value: iso(6).map((t) => `${t}Z`) },
  { type: { type: 'long', logicalType: 'local-timestamp-micros' }, value: iso(6) },
  { type: { type: 'int', logicalType: 'date' }, value: iso(3).map((t) => t.slice(0, 10)) },
  { type: { type: 'int', logicalType: 'time-millis' }, value: iso(3).map((t) => t.slice(11)) },
  { type: { type: 'long', logicalType: 'time-micros' }, value: iso(6).map((t) => t.slice(11)) },
  { type: { type: 'string', logicalType: 'uuid' }, value: fc.uuid() },
];

const fixedScalars = (): Sample[] => [
  { type: named((name) => ({ type: 'fixed', name, size: 12 })), value: base64({ minLength: 12, maxLength: 12 }) },
  { type: named((name) => ({ type: 'fixed', name, size: 16, logicalType: 'uuid' })), value: fc.uuid() },
  {
    type: named((name) => ({ type: 'fixed', name, size: 9, logicalType: 'decimal', precision: 18, scale: 2 })),
    value: money,
  },
  {
    type: named((name) => ({ type: 'enum', name, symbols: ['RED', 'GREEN', 'BLUE'] })),
    value: fc.constantFrom('RED', 'GREEN', 'BLUE'),
  },
];

const scalar: fc.Arbitrary<Sample> = fc
  .nat(scalars.length + 3)
  .map((i) => [...scalars, ...fixedScalars()][i] ?? { type: 'null', value: fc.constant(null) });

/** Names that stand on Object.prototype, and names that others would trip over. */
const fieldNames = fc.uniqueArray(
  fc.oneof(fc.stringMatching(/^[a-z_][a-zA-Z0-9_]{0,8}$/), fc.constantFrom('constructor', 'toString', 'valueOf')),
  { minLength: 1, maxLength: 6 },
);
const mapKeys = text.filter((key) => key !== '__proto__');

const sample: fc.Arbitrary<Sample> = fc.letrec<{ sample: Sample }>((tie) => ({
  sample: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { weight: 4, arbitrary: scalar },
    {
      weight: 1,
      arbitrary: tie('sample').map(({ type, value }) => ({
        type: { type: 'array', items: type },
        value: fc.array(value, { maxLength: 5 }),
      })),
    },
    {
      weight: 1,
      arbitrary: tie('sample').map(({ type, value }) => ({
        type: { type: 'map', values: type },
        value: fc.dictionary(mapKeys, value, { maxKeys: 5, noNullPrototype: true }),
      })),
    },
    {
      weight: 1,
      arbitrary: tie('sample')
        .filter(({ type }) => type !== 'null' && !Array.isArray(type))
        .map(({ type, value }) => ({ type: ['null', type], value: fc.option(value) })),
    },
    {
      weight: 2,
      arbitrary: fieldNames.chain((fields) =>
        fc.tuple(...fields.map(() => tie('sample'))).map((inner) => ({
          type: named((name) => ({
            type: 'record',
            name,
            fields: inner.map(({ type }, i) => ({ name: fields[i], type })),
          })),
          value: fc
            .tuple(...inner.map(({ value }) => value))
            .map((values) => Object.fromEntries(values.map((value, i) => [fields[i], value]))),
        })),
      ),
    },
  ),
})).sample;

test('any value of any schema comes back as it was', () => {
  fc.assert(
    fc.property(
      sample.chain(({ type, value }) => fc.record({ type: fc.constant(type), value })),
      ({ type, value }) => {
        const schema = holding(type);
        assert.equal(stringifyExactJson(roundTrip(schema, { v: value })), stringifyExactJson({ v: value }));
      },
    ),
    { numRuns: 1_000 },
  );
});

test('the bytes are what plain avsc reads', () => {
  const type = {
    type: 'record',
    name: 'test.Event',
    fields: [
      { name: 'count', type: 'long' },
      { name: 'label', type: ['null', 'string'] },
      { name: 'money', type: { type: 'bytes', logicalType: 'decimal', precision: 18, scale: 2 } },
      { name: 'at', type: { type: 'long', logicalType: 'timestamp-micros' } },
      { name: 'tags', type: { type: 'map', values: 'int' } },
    ],
  } as const;
  const plain = avsc.Type.forSchema(structuredClone(type) as never);
  const schema = new EventSchema(7, { text: JSON.stringify(type), references: [] });
  const values = fc.record({
    count: fc.integer({ min: -(2 ** 52), max: 2 ** 52 - 1 }), // beyond, avsc's own reader rounds (seen at −2^52 − 1)
    label: fc.option(text),
    cents: fc.integer(),
    ms: fc.integer({ min: 0, max: 4e12 }),
    tags: fc.dictionary(mapKeys, fc.integer(), { noNullPrototype: true }),
  });
  fc.assert(
    fc.property(values, ({ count, label, cents, ms, tags }) => {
      const sign = cents < 0 ? '-' : '';
      const digits = String(Math.abs(cents)).padStart(3, '0');
      const money = `${sign}${digits.slice(0, -2)}.${digits.slice(-2)}`;
      const json = JSON.stringify({ count, label, money, at: new Date(ms).toISOString(), tags });
      const read = plain.fromBuffer(schema.encode(json, writer).subarray(WIRE_HEADER_BYTES));
      assert.equal(read.count, count + 0);
      assert.equal(read.label, label);
      assert.equal(read.money.readIntBE(0, read.money.length), cents + 0);
      assert.equal(read.at, ms * 1000);
      assert.deepEqual({ ...read.tags }, tags);
    }),
  );
});

// --- the rules, one by one

test('a number is never rounded', () => {
  const longs = holding('long');
  for (const digits of ['9007199254740993', '-9223372036854775808', '9223372036854775807']) {
    assert.equal(stringifyExactJson(longs.decode(longs.encode(`{"v": ${digits}}`, writer))), `{"v":${digits}}`);
  }
  assert.match(refusalOf(longs, '{"v": 9223372036854775808}'), /64-bit integer/);
  assert.match(refusalOf(longs, '{"v": 1.5}'), /64-bit integer/);
  assert.match(refusalOf(longs, '{"v": "1"}'), /64-bit integer, got a string/);
  const money = holding({ type: 'bytes', logicalType: 'decimal', precision: 38, scale: 4 });
  const exact = money.encode('{"v": 1234567890123456789.1234}', writer);
  assert.deepEqual(money.decode(exact), { v: '1234567890123456789.1234' });
  assert.deepEqual(money.decode(money.encode('{"v": 12.5}', writer)), { v: '12.5000' });
  assert.match(refusalOf(money, '{"v": 12.34567}'), /exactly 4 digits/);
  assert.match(refusalOf(money, '{"v": 0.00000000000000000001}'), /exactly 4 digits/);
});

test('an optional field is the bare value, or null', () => {
  const schema = recordOf({ name: 'v', type: ['null', 'string'], default: null });
  assert.deepEqual(roundTrip(schema, { v: 'x' }), { v: 'x' });
  assert.deepEqual(roundTrip(schema, { v: null }), { v: null });
  assert.deepEqual(roundTrip(schema, {}), { v: null });
  assert.match(refusalOf(schema, '{"v": {"string": "x"}}'), /^\/v expected a string .*got an object/);
});

test('a union takes the first branch that fits', () => {
  const inner = (name: string, field: string) => ({
    type: 'record',
    name,
    fields: [{ name: field, type: { type: 'bytes', logicalType: 'decimal', precision: 4, scale: 1 } }],
  });
  const schema = holding(['null', 'int', 'double', inner('A', 'a'), inner('B', 'b'), { type: 'array', items: 'int' }]);
  for (const v of [null, 1, -0.5, 3e9, { a: '1.0' }, { b: '2.0' }, [1, 2]]) {
    assert.deepEqual(roundTrip(schema, { v }), { v });
  }
  const branch = (v: unknown): number | undefined => schema.encode(JSON.stringify({ v }), writer)[WIRE_HEADER_BYTES];
  assert.equal(branch(1), 2, 'int is the second branch: zig-zag 2');
  assert.equal(branch(3e9), 4, 'too large for int: double');
  assert.equal(branch({ b: '2.0' }), 8);
  assert.match(
    refusalOf(schema, '{"v": {"a": "1.0", "b": "1.0"}}'),
    /^\/v expected a value of one of the union’s types/,
  );
  assert.match(refusalOf(schema, '{"v": "x"}'), /got a string/);
});

test('a number goes to a number branch before a decimal, and to an exact double before a lossy float', () => {
  const schema = holding([{ type: 'bytes', logicalType: 'decimal', precision: 4, scale: 1 }, 'int', 'float', 'double']);
  const branch = (json: string): number | undefined => schema.encode(`{"v":${json}}`, writer)[WIRE_HEADER_BYTES];
  assert.equal(branch('1'), 2);
  assert.equal(branch('"1.0"'), 0);
  assert.equal(branch('0.5'), 4);
  assert.equal(branch('0.1'), 6);
});

test('defaults of every kind stand for missing fields', () => {
  const schema = recordOf(
    { name: 'id', type: 'int' },
    { name: 'label', type: 'string', default: 'none' },
    { name: 'many', type: { type: 'array', items: 'long' }, default: [] },
    { name: 'money', type: { type: 'bytes', logicalType: 'decimal', precision: 9, scale: 2 }, default: '\u0000' },
    { name: 'union', type: ['string', 'int'], default: 'first' },
    { name: 'constructor', type: 'string', default: 'inherited names too' },
    { name: 'at', type: { type: 'long', logicalType: 'timestamp-micros' }, default: 0 },
  );
  assert.deepEqual(roundTrip(schema, { id: 1 }), {
    id: 1,
    label: 'none',
    many: [],
    money: '0.00',
    union: 'first',
    constructor: 'inherited names too',
    at: '1970-01-01T00:00:00.000000Z',
  });
  assert.match(refusalOf(schema, '{}'), /^\/id required by the schema, but missing/);
  assert.match(refusalOf(holding('string'), '{"toString": 1}'), /^\/v required/);
  assert.match(refusalOf(recordOf({ name: 'toString', type: 'string' }), '{}'), /^\/toString required/);
});

test('a refusal names the place and never the value', () => {
  const schema = recordOf({
    name: 'lines',
    type: {
      type: 'array',
      items: { type: 'record', name: 'Line', fields: [{ name: 'tags', type: { type: 'map', values: 'int' } }] },
    },
  });
  assert.match(
    refusalOf(schema, '{"lines": [{"tags": {}}, {"tags": {"CANARY": "CANARY"}}]}'),
    /^\/lines\/1\/tags\/\* exp/,
  );
  assert.match(refusalOf(schema, '{"lines": [], "unknown": 1}'), /^\/unknown not a field of test.Event/);
  for (const json of [
    '{"lines": [], "CANARY 1": 2}',
    '{"lines": "CANARY"}',
    'CANARY',
    '{"lines": CANARY}',
    '"CANARY"',
  ]) {
    assert.doesNotMatch(refusalOf(schema, json), /CANARY/);
  }
});

test('text that UTF-8 cannot hold, and keys that objects cannot, are refused', () => {
  assert.match(refusalOf(holding('string'), '{"v": "\\ud800"}'), /well-formed Unicode/);
  assert.match(
    refusalOf(holding({ type: 'map', values: 'int' }), '{"v": {"__proto__": 1}}'),
    /key that is not allowed/,
  );
  assert.match(refusalOf(holding('int'), '{"v": 1, "__proto__": 1}'), /__proto__ not a field/);
  assert.match(refusalOf(holding('bytes'), '{"v": "AB"}'), /base64/);
  assert.match(refusalOf(holding('bytes'), '{"v": "AB=="}'), /base64/, 'bits left over');
});

test('recursive types nest as deep as the stack allows, and no deeper', () => {
  const schema = recordOf({ name: 'next', type: ['null', 'test.Event'], default: null });
  const value = { next: { next: { next: null } } };
  assert.deepEqual(roundTrip(schema, value), value);
  const deep = `${'{"next":'.repeat(100_000)}null${'}'.repeat(100_000)}`;
  assert.match(refusalOf(schema, deep), /nested too deeply/);
});

test('a value larger than the scratch buffer is encoded whole', () => {
  const schema = holding('string');
  const long = 'x'.repeat(500_000);
  assert.deepEqual(roundTrip(schema, { v: long }), { v: long });
});

test('names resolve across namespaces and references', () => {
  const address = JSON.stringify({
    type: 'record',
    name: 'shared.Address',
    fields: [{ name: 'city', type: 'string' }],
  });
  const text = JSON.stringify({
    type: 'record',
    name: 'Moved',
    namespace: 'crm',
    fields: [
      { name: 'to', type: 'shared.Address' },
      { name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['HOME'] } },
      { name: 'again', type: ['null', 'crm.Kind'], default: null },
    ],
  });
  const schema = new EventSchema(1, { text, references: [address] });
  assert.equal(schema.name, 'crm.Moved');
  const value = { to: { city: 'Ulm' }, kind: 'HOME', again: 'HOME' };
  assert.deepEqual(roundTrip(schema, value), value);
});
