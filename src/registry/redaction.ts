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
