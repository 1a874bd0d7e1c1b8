/** What breaks between two versions of a schema: each kind of change, in the direction in which it breaks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CompatibilityLevel } from '../../../src/registry/registry-client.ts';
import { findBreaks } from '../../../src/registry/schema-compatibility.ts';
import { parseSchema, type SchemaNode } from '../../../src/registry/schema-tree.ts';

function event(...fields: object[]): SchemaNode {
  return parseSchema(JSON.stringify({ type: 'record', name: 't.Event', fields }));
}

const holding = (type: unknown): SchemaNode => event({ name: 'v', type });
const id = { name: 'id', type: 'string' };
const enumOf = (symbols: string[], fallback?: string) => ({ type: 'enum', name: 'E', symbols, default: fallback });
const decimal = (scale: number) => ({ type: 'bytes', logicalType: 'decimal', precision: 9, scale });

function problems(next: SchemaNode, previous: SchemaNode, level: CompatibilityLevel): string[] {
  return findBreaks(next, [{ version: 1, tree: previous }], level).map(({ path, problem }) => `${path}: ${problem}`);
}

/** Old version, new version, and what breaks backward and forward; empty: compatible that way. */
const CHANGES: ReadonlyArray<[string, SchemaNode, SchemaNode, RegExp | null, RegExp | null]> = [
  ['nothing', event(id), event(id), null, null],
  ['a new field with a default', event(id), event(id, { name: 'n', type: 'int', default: 0 }), null, null],
  [
    'a new field without one',
    event(id),
    event(id, { name: 'n', type: 'int' }),
    /^\/n: the field is new and has no/,
    null,
  ],
  ['a field gone that had a default', event(id, { name: 'n', type: 'int', default: 0 }), event(id), null, null],
  ['a field gone that had none', event(id, { name: 'n', type: 'int' }), event(id), null, /^\/n: the field is gone/],
  [
    'a field renamed with an alias',
    event(id),
    event({ name: 'key', type: 'string', aliases: ['id'] }),
    null,
    /^\/id: the field is gone/,
  ],
  ['a wider number', holding('int'), holding('long'), null, /^\/v: the type was int and is long/],
  ['a narrower number', holding('long'), holding('int'), /^\/v: the type was long and is int/, null],
  ['text as bytes', holding('string'), holding('bytes'), null, null],
  ['another type', holding('string'), holding('int'), /^\/v: the type was string/, /^\/v: the type was string/],
  ['a type made optional', holding('string'), holding(['null', 'string']), null, /^\/v: the type null is new/],
  [
    'an optional type made required',
    holding(['null', 'string']),
    holding('string'),
    /^\/v: the type null is gone/,
    null,
  ],
  ['a new symbol', holding(enumOf(['A'])), holding(enumOf(['A', 'B'])), null, /^\/v: the symbol B of t.E is new/],
  ['a new symbol with a fallback', holding(enumOf(['A'], 'A')), holding(enumOf(['A', 'B'], 'A')), null, null],
  [
    'another scale',
    holding(decimal(2)),
    holding(decimal(3)),
    /decimal\(9, 2\) and is bytes decimal\(9, 3\)/,
    /decimal/,
  ],
  [
    'another unit of time',
    holding({ type: 'long', logicalType: 'timestamp-millis' }),
    holding({ type: 'long', logicalType: 'timestamp-micros' }),
    /timestamp-millis and is long timestamp-micros/,
    /timestamp/,
  ],
  [
    'within arrays and maps',
    holding({ type: 'array', items: { type: 'map', values: 'int' } }),
    holding({ type: 'array', items: { type: 'map', values: 'string' } }),
    /^\/v\/\*\/\*: /,
    /^\/v\/\*\/\*: /,
  ],
  [
    'within an optional record',
    holding(['null', { type: 'record', name: 'R', fields: [id] }]),
    holding(['null', { type: 'record', name: 'R', fields: [id, { name: 'n', type: 'int' }] }]),
    /^\/v\/n: the field is new/,
    null,
  ],
  [
    'a recursive type',
    event(id, { name: 'next', type: ['null', 't.Event'], default: null }),
    event(id, { name: 'next', type: ['null', 't.Event'], default: null }, { name: 'n', type: 'int' }),
    /^\/n: the field is new/,
    null,
  ],
];

for (const [name, previous, next, backward, forward] of CHANGES) {
  test(name, () => {
    for (const [level, expected] of [
      ['BACKWARD', backward],
      ['FORWARD', forward],
    ] as const) {
      const found = problems(next, previous, level);
      if (expected === null) assert.deepEqual(found, [], level);
      else assert.match(found[0] ?? 'nothing found', expected, level);
    }
    const full = problems(next, previous, 'FULL');
    assert.equal(full.length === 0, backward === null && forward === null);
    assert.deepEqual(problems(next, previous, 'NONE'), []);
  });
}

test('only transitive levels look beyond the newest version', () => {
  const first = event(id);
  const second = event(id, { name: 'n', type: 'int', default: 0 });
  const third = event(id, { name: 'n', type: 'int' });
  const versions = [
    { version: 1, tree: first },
    { version: 2, tree: second },
  ];
  assert.deepEqual(findBreaks(third, versions, 'FULL'), []);
  const [found] = findBreaks(third, versions, 'FULL_TRANSITIVE');
  assert.match(found?.problem ?? '', /events of version 1 need/);
  assert.match(found?.mend ?? '', /give n a "default"/);
});
