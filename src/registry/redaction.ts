/**
 * Personal data out of payloads that people look at: fields that the schema marks with `ferry.pii`. A payload may also be one that its schema
 * refuses; so whatever the schema does not know is taken out as well.
 */
import { FerryError } from '../kernel/errors.ts';
import { ExactNumber } from '../kernel/exact-json.ts';
import type { FieldNode, SchemaNode } from './schema-tree.ts';

/** Stands where something was taken out. */
export const REDACTED = '[redacted]';

type JsonObject = Readonly<Record<string, unknown>>;

/** A copy of plain JSON without what `schema` marks or does not know. Null stays null. */
export function redact(schema: SchemaNode, value: unknown): unknown {
  return redactAs(branchesOf(schema), value);
}

/** `nodes`: what may stand here. A field is taken out if any of them marks it: which branch was meant cannot be told for certain. */
function redactAs(nodes: readonly SchemaNode[], value: unknown): unknown {
  if (value === null) return null;
  if (Array.isArray(value)) {
    const items = nodes.flatMap((node) => (node.kind === 'array' ? branchesOf(node.items) : []));
    return items.length === 0 ? REDACTED : value.map((item) => redactAs(items, item));
  }
  if (isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, redactMember(nodes, name, member)]));
  }
  return nodes.some((node) => SCALARS.has(node.kind)) ? value : REDACTED;
}

function redactMember(nodes: readonly SchemaNode[], name: string, member: unknown): unknown {
  const fields: FieldNode[] = [];
  const values: SchemaNode[] = [];
  for (const node of nodes) {
    if (node.kind === 'record') fields.push(...node.fields.filter((field) => field.name === name));
    if (node.kind === 'map') values.push(...branchesOf(node.values));
  }
  if (member === null && fields.length > 0) return null;
  if (fields.some(({ pii }) => pii)) return REDACTED;
  return redactAs([...fields.flatMap(({ type }) => branchesOf(type)), ...values], member);
}

function branchesOf(node: SchemaNode): readonly SchemaNode[] {
  return node.kind === 'union' ? node.branches.flatMap(branchesOf) : [node];
}

const SCALARS: ReadonlySet<string> = new Set([
  ...['boolean', 'int', 'long', 'float', 'double', 'bytes', 'string', 'fixed', 'enum'],
]);

/** Shorter ones stand in any text, by chance. */
const MIN_QUOTED_CHARS = 3;

/** What `redact` takes out, each scalar as it would be quoted in a text; the longest first, which may hold others. */
export function personalTexts(schema: SchemaNode, value: unknown): string[] {
  const texts = new Set(removed(value, redact(schema, value)).flatMap((text) => [text, inJson(text)]));
  return [...texts].filter(({ length }) => length >= MIN_QUOTED_CHARS).sort((a, b) => b.length - a.length);
}

/** `text` with none of the personal texts in it. */
export function redactText(text: string, personal: readonly string[]): string {
  return personal.reduce((rest, quoted) => rest.replaceAll(quoted, REDACTED), text);
}

/** The scalars of `value` that are not in `redacted`, a copy of it in which something was taken out. */
function removed(value: unknown, redacted: unknown): string[] {
  if (value === redacted || value === null) return [];
  if (Array.isArray(value)) {
    const copy = Array.isArray(redacted) ? redacted : [];
    return value.flatMap((item, i) => removed(item, copy[i]));
  }
  if (!isObject(value)) return [String(value)];
  const copy = isObject(redacted) ? redacted : {};
  return Object.entries(value).flatMap(([name, member]) => removed(member, copy[name]));
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/**
 * The document that somebody made of a redacted one: what still reads `[redacted]` is what `original` has in its place. Throws INVALID_REQUEST
 * naming the place where the original has nothing.
 */
export function unredact(edited: unknown, original: unknown, path = ''): unknown {
  if (edited === REDACTED) {
    if (original !== undefined) return original;
    throw new FerryError('INVALID_REQUEST', `${path}: reads ${REDACTED}, and the original has nothing there`, {
      details: { path },
    });
  }
  if (Array.isArray(edited)) {
    const from: readonly unknown[] = Array.isArray(original) ? original : [];
    return edited.map((item, i) => unredact(item, from[i], `${path}/${i}`));
  }
  if (!isObject(edited)) return edited;
  const from = isObject(original) ? original : {};
  return Object.fromEntries(
    Object.entries(edited).map(([name, member]) => {
      const place = `${path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      return [name, unredact(member, Object.hasOwn(from, name) ? from[name] : undefined, place)];
    }),
  );
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber);
}
