/** The faults of schema files, each found before the registry sees it. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSchemaFile, readSchemaFiles, type SchemaFile } from '../../../src/registry/schema-files.ts';
import type { SchemaNode } from '../../../src/registry/schema-tree.ts';

const valid = {
  type: 'record',
  name: 'shop.Sold',
  'ferry.aggregatetype': 'sale',
  fields: [{ name: 'id', type: 'string' }] as object[],
};

function read(schema: unknown, file = 'shop.Sold.avsc'): ReturnType<typeof readSchemaFile> {
  return readSchemaFile(file, typeof schema === 'string' ? schema : JSON.stringify(schema, null, 2));
}

function faultsOf(schema: unknown, file?: string): string {
  const result = read(schema, file);
  assert.ok('faults' in result, 'no fault found');
  return result.faults.join('\n');
}

test('a whole file gives its one-line text, its topic’s aggregatetype and its level', () => {
  const result = read(valid) as SchemaFile;
  assert.equal(result.text, JSON.stringify(valid));
  assert.equal(result.aggregateType, 'sale');
  assert.equal(result.level, 'FULL_TRANSITIVE');
  assert.equal((read({ ...valid, 'ferry.compatibility': 'BACKWARD' }) as SchemaFile).level, 'BACKWARD');
});

test('each fault is named', () => {
  const field = (type: unknown) => ({ ...valid, fields: [{ name: 'v', type }] });
  assert.match(faultsOf('{'), /not JSON/);
  assert.match(faultsOf('"string"'), /is a record, not string/);
  assert.match(faultsOf(valid, 'other.avsc'), /call it shop\.Sold\.avsc/);
  assert.match(faultsOf({ ...valid, 'ferry.aggregatetype': undefined }), /ferry\.aggregatetype/);
  assert.match(faultsOf({ ...valid, 'ferry.compatibility': 'SOME' }), /takes NONE, BACKWARD/);
  assert.match(faultsOf(field('Unknown')), /"Unknown" is not defined/);
  assert.match(faultsOf({ ...valid, fields: [{ name: 'a b', type: 'int' }] }), /without a legal name/);
  assert.match(faultsOf({ ...valid, fields: [{ name: 'v', type: 'int', default: 'x' }] }), /breaks Avro’s rules/);
  assert.match(faultsOf(field(['string', 'bytes'])), /^\/v: the union’s bytes can never be chosen, because string/);
  assert.match(
    faultsOf(field({ type: 'array', items: ['double', 'int'] })),
    /^\/v: the union’s int can never be chosen/,
  );
});

test('the files of this repository are whole, and mark what is personal', () => {
  const directory = join(import.meta.dirname, '../../../schemas');
  const files = readSchemaFiles(directory);
  assert.deepEqual(
    files.map(({ tree }) => `${tree.name}.avsc`),
    readdirSync(directory).sort(),
  );
  const undocumented = files.flatMap(({ tree }) => tree.fields.filter(({ doc }) => doc === '').map(({ name }) => name));
  assert.deepEqual(undocumented, []);
  const placed = files.find(({ tree }) => tree.name === 'commerce.OrderPlaced')?.tree as Extract<
    SchemaNode,
    { kind: 'record' }
  >;
  const personal = placed.fields.filter(({ pii }) => pii).map(({ name }) => name);
  assert.deepEqual(personal, ['customerEmail', 'shippingAddress']);
});

test('a directory that is not there is a fault of the configuration', () => {
  assert.throws(() => readSchemaFiles('/nowhere/at/all'), { code: 'CONFIG_INVALID' });
});
