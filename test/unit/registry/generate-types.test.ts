/** The generated payload types are those of the schemas: a schema that changed without them turns this red. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { generateTypes } from '../../../src/registry/generate-types.ts';
import { readSchemaFiles } from '../../../src/registry/schema-files.ts';
import { parseSchema, type RecordNode } from '../../../src/registry/schema-tree.ts';

const ROOT = join(import.meta.dirname, '../../..');

function parseRecord(schema: object): RecordNode {
  const node = parseSchema(JSON.stringify(schema));
  assert.ok(node.kind === 'record');
  return node;
}

test('src/events/generated is what the schemas say (node src/registry/generate-types.ts writes it)', () => {
  const generated = generateTypes(readSchemaFiles(join(ROOT, 'schemas')).map(({ tree }) => tree));
  assert.equal(readFileSync(join(ROOT, 'src/events/generated/payloads.ts'), 'utf8'), generated);
});

test('every kind of type has its plain-JSON form', () => {
  const generated = generateTypes([
    parseRecord({
      type: 'record',
      name: 'test.All',
      fields: [
        { name: 'big', type: 'long' },
        { name: 'on', type: { type: 'int', logicalType: 'date' }, default: 0 },
        { name: 'raw', type: ['null', { type: 'fixed', name: 'Hash', size: 4 }] },
        { name: 'more', type: { type: 'map', values: { type: 'array', items: 'test.All' } } },
        { name: 'mixed', type: ['string', 'boolean', 'null'], 'ferry.pii': true },
      ],
    }),
  ]);
  for (const line of [
    'readonly big: number | bigint;',
    'readonly on?: string;',
    'readonly raw: string | null;',
    'readonly more: Readonly<Record<string, ReadonlyArray<All>>>;',
    'readonly mixed: string | boolean | null;',
    "'test.All': All;",
  ]) {
    assert.ok(generated.includes(`  ${line}\n`), line);
  }
  assert.match(generated, /Personal data/);
});

test('two types of one short name are refused rather than merged', () => {
  const [a, b] = ['a.Same', 'b.Same'].map((name) => parseRecord({ type: 'record', name, fields: [] }));
  assert.ok(a !== undefined && b !== undefined);
  assert.throws(() => generateTypes([a, b]), /both be called Same/);
});
