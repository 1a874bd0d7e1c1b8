/**
 * Generates src/events/generated/payloads.ts from schemas/*.avsc: the plain-JSON form of every event's payload, and a map from type
 * name to payload. A test fails when the file and the schemas differ; to write it again:
 *
 *     node src/registry/generate-types.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSchemaFiles } from './schema-files.ts';
import type { FieldNode, NamedNode, RecordNode, SchemaNode } from './schema-tree.ts';

const HEADING = `/**
 * Generated from schemas/*.avsc by src/registry/generate-types.ts: do not edit. Payloads in plain JSON, as the encoder accepts and
 * the decoder gives them; the forms of decimals, times and bytes are in src/registry/json-codec.ts.
 */
`;

/** The TypeScript source for these event types. Throws a TypeError if two types would get the same name. */
export function generateTypes(events: readonly RecordNode[]): string {
  const named = new Map<string, NamedNode>();
  for (const event of events) collectNamed(event, named);
  const names = new Map<string, string>();
  for (const full of named.keys()) {
    const short = full.slice(full.lastIndexOf('.') + 1);
    if (names.has(short)) throw new TypeError(`${full} and ${names.get(short)} would both be called ${short}`);
    names.set(short, full);
  }
  const declarations = [...named.values()].map(declare).filter((text) => text !== '');
  const entries = events.map((event) => `  '${event.name}': ${shortName(event)};`).join('\n');
  const map = `${comment(['Payload of each event type, by its full name.'], '')}export interface EventPayloads {\n${entries}\n}\n`;
  return [HEADING, ...declarations, map, 'export type EventType = keyof EventPayloads;\n'].join('\n');
}

/** Named types, those that are used before those that use them. */
function collectNamed(node: SchemaNode, named: Map<string, NamedNode>, open = new Set<SchemaNode>()): void {
  if (open.has(node)) return;
  open.add(node);
  if (node.kind === 'record') for (const field of node.fields) collectNamed(field.type, named, open);
  if (node.kind === 'array') collectNamed(node.items, named, open);
  if (node.kind === 'map') collectNamed(node.values, named, open);
  if (node.kind === 'union') for (const branch of node.branches) collectNamed(branch, named, open);
  if ('name' in node && !named.has(node.name)) named.set(node.name, node);
}

function declare(node: NamedNode): string {
  if (node.kind === 'fixed') return '';
  const doc = comment([node.doc], '');
  if (node.kind === 'enum') {
    return `${doc}export type ${shortName(node)} = ${node.symbols.map((symbol) => `'${symbol}'`).join(' | ')};\n`;
  }
  return `${doc}export interface ${shortName(node)} {\n${node.fields.map(declareField).join('\n')}\n}\n`;
}

function declareField(field: FieldNode): string {
  const notes = [field.doc, formOf(field.type), field.pii ? 'Personal data.' : ''];
  return `${comment(notes, '  ')}  readonly ${field.name}${field.hasDefault ? '?' : ''}: ${typeOf(field.type)};`;
}

function typeOf(node: SchemaNode): string {
  switch (node.kind) {
    case 'null':
    case 'boolean':
      return node.kind;
    case 'int':
      return node.logical === null ? 'number' : 'string';
    case 'long':
      return node.logical === null ? 'number | bigint' : 'string';
    case 'float':
    case 'double':
      return "number | 'NaN' | 'Infinity' | '-Infinity'";
    case 'bytes':
    case 'string':
    case 'fixed':
      return 'string';
    case 'array':
      return `ReadonlyArray<${typeOf(node.items)}>`;
    case 'map':
      return `Readonly<Record<string, ${typeOf(node.values)}>>`;
    case 'union': {
      const branches = [...node.branches.filter(({ kind }) => kind !== 'null'), ...node.branches.filter(isNull)];
      return [...new Set(branches.map(typeOf))].join(' | ');
    }
    default:
      return shortName(node);
  }
}

const isNull = (node: SchemaNode): boolean => node.kind === 'null';

/** What a string must look like, where it is not just text. */
function formOf(node: SchemaNode): string {
  if (node.kind === 'union') return node.branches.map(formOf).find((form) => form !== '') ?? '';
  if (!('logical' in node)) return '';
  const { logical } = node;
  if (logical === null) return node.kind === 'bytes' || node.kind === 'fixed' ? 'Base64.' : '';
  switch (logical.name) {
    case 'decimal':
      return `Decimal with exactly ${logical.scale} digits after the point.`;
    case 'timestamp':
      return `ISO 8601, UTC, ${logical.fractionDigits} fraction digits.`;
    case 'local-timestamp':
      return `ISO 8601 without a zone, ${logical.fractionDigits} fraction digits.`;
    case 'date':
      return 'YYYY-MM-DD.';
    case 'time':
      return `HH:MM:SS with ${logical.fractionDigits} fraction digits.`;
    case 'uuid':
      return 'UUID.';
  }
}

function comment(notes: readonly string[], indent: string): string {
  const text = notes
    .filter((note) => note !== '')
    .join(' ')
    .replaceAll('*/', '* /');
  return text === '' ? '' : `${indent}/** ${text} */\n`;
}

function shortName(node: NamedNode): string {
  return node.name.slice(node.name.lastIndexOf('.') + 1);
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '../..');
  const target = join(root, 'src/events/generated/payloads.ts');
  const source = generateTypes(readSchemaFiles(join(root, 'schemas')).map(({ tree }) => tree));
  const before = readFileSync(target, { encoding: 'utf8', flag: 'a+' });
  if (before !== source) writeFileSync(target, source);
  console.log(`${target} ${before === source ? 'is up to date' : 'written'}`);
}
