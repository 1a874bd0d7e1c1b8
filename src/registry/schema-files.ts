/**
 * The .avsc files of a directory: one event type each, in a file named after it (`commerce.OrderPlaced.avsc`), complete in itself.
 * What would go wrong later is found here, with the way to mend it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FerryError } from '../kernel/errors.ts';
import { EventSchema } from './event-schema.ts';
import type { CompatibilityLevel } from './registry-client.ts';
import { type RecordNode, type SchemaNode, SchemaSyntaxError } from './schema-tree.ts';

export interface SchemaFile {
  /** File name, without its directory. */
  readonly file: string;
  /** The schema as one line of JSON: what is registered. */
  readonly text: string;
  readonly tree: RecordNode;
  /** `ferry.aggregatetype`: whose topic the event goes to. */
  readonly aggregateType: string;
  readonly level: CompatibilityLevel;
}

export const DEFAULT_LEVEL: CompatibilityLevel = 'FULL_TRANSITIVE';
const LEVELS: readonly string[] = [
  'NONE',
  'BACKWARD',
  'BACKWARD_TRANSITIVE',
  'FORWARD',
  'FORWARD_TRANSITIVE',
  'FULL',
  'FULL_TRANSITIVE',
] satisfies CompatibilityLevel[];

/** Reads all files of the directory, sorted by name. Throws SCHEMA_INVALID with one line for each fault of each file. */
export function readSchemaFiles(directory: string): SchemaFile[] {
  let names: string[];
  try {
    names = readdirSync(directory).filter((name) => name.endsWith('.avsc'));
  } catch (cause) {
    throw new FerryError('CONFIG_INVALID', `SCHEMAS_DIR is ${JSON.stringify(directory)}, which cannot be read`, {
      cause,
    });
  }
  const files: SchemaFile[] = [];
  const faults: string[] = [];
  for (const name of names.sort()) {
    const read = readSchemaFile(name, readFileSync(join(directory, name), 'utf8'));
    if ('faults' in read) faults.push(...read.faults.map((fault) => `${name}: ${fault}`));
    else files.push(read);
  }
  if (faults.length > 0) throw new FerryError('SCHEMA_INVALID', faults.join('\n'));
  return files;
}

/** Checks one file's text; gives its faults if it has any. */
export function readSchemaFile(file: string, text: string): SchemaFile | { readonly faults: readonly string[] } {
  let tree: RecordNode;
  try {
    tree = new EventSchema(0, { text, references: [] }).tree;
  } catch (thrown) {
    if (!(thrown instanceof SchemaSyntaxError)) throw thrown;
    const cause = thrown.cause instanceof Error ? `: ${thrown.cause.message}` : '';
    return { faults: [`${thrown.message}${cause}`] };
  }
  const aggregateType = tree.attributes['ferry.aggregatetype'] ?? '';
  const level = tree.attributes['ferry.compatibility'] ?? DEFAULT_LEVEL;
  const faults = [...unreachableBranches(tree, '', new Set())];
  if (file !== `${tree.name}.avsc`) faults.push(`holds ${tree.name}: call it ${tree.name}.avsc`);
  if (aggregateType === '') {
    faults.push('has no "ferry.aggregatetype": name the aggregatetype whose topic the event goes to');
  }
  if (!LEVELS.includes(level)) faults.push(`"ferry.compatibility" is ${level}; it takes ${LEVELS.join(', ')}`);
  if (faults.length > 0) return { faults };
  const line = JSON.stringify(JSON.parse(text));
  return { file, text: line, tree, aggregateType, level: level as CompatibilityLevel };
}

/**
 * Branches of a union that plain JSON can never choose, because one before takes every value of theirs: text before other forms of
 * text, a wider number before a narrower one, a map before other maps.
 */
function* unreachableBranches(node: SchemaNode, path: string, seen: Set<RecordNode>): Generator<string> {
  switch (node.kind) {
    case 'record':
      if (seen.has(node)) return;
      seen.add(node);
      for (const field of node.fields) yield* unreachableBranches(field.type, `${path}/${field.name}`, seen);
      return;
    case 'array':
      return yield* unreachableBranches(node.items, path, seen);
    case 'map':
      return yield* unreachableBranches(node.values, `${path}/*`, seen);
    case 'union':
      for (const [i, branch] of node.branches.entries()) {
        const before = node.branches.slice(0, i).find((earlier) => takesAllOf(earlier, branch));
        if (before !== undefined) {
          yield `${path}: the union’s ${branch.kind} can never be chosen, because ${before.kind} comes first: put it before`;
        }
        yield* unreachableBranches(branch, path, seen);
      }
  }
}

const WIDER: Readonly<Record<string, readonly string[]>> = {
  long: ['int'],
  double: ['int', 'long', 'float'],
};

function takesAllOf(earlier: SchemaNode, later: SchemaNode): boolean {
  if (earlier.kind === 'string' && earlier.logical === null) {
    const logical = 'logical' in later && later.logical !== null;
    return ['string', 'bytes', 'fixed', 'enum'].includes(later.kind) || logical;
  }
  const plain = !('logical' in later) || later.logical === null;
  return (
    plain && WIDER[earlier.kind]?.includes(later.kind) === true && !('logical' in earlier && earlier.logical !== null)
  );
}
