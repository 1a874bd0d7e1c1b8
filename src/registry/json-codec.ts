/**
 * Plain JSON to the values that avsc writes, and back. Each schema is compiled once into a tree of closures; converting changes the
 * parsed JSON in place, because most fields (strings, integers, booleans) only need a check.
 *
 * Plain JSON is what a programmer would write, not Avro's own JSON encoding:
 *   decimal            a string with exactly `scale` digits after the point ("12.50"), or a number that fits the scale exactly
 *   timestamp          ISO 8601 with Z or an offset; local-timestamp: without; at most the unit's digits (micros: 6)
 *   date, time         "2025-01-31", "23:59:59.999999"
 *   uuid               36 characters with hyphens, either case
 *   bytes, fixed       base64 with padding
 *   long               every digit counts: a number, or a bigint beyond 2^53 (kernel/exact-json.ts)
 *   float, double      a number; "NaN", "Infinity" and "-Infinity" as strings
 *   union              the value itself. Which branch it is:
 *                        1. null is the null branch;
 *                        2. else the first branch, in the schema's order, whose own JSON form the value has and that takes all of it;
 *                        3. else the first that takes it in its second form (a number as a decimal, "NaN" as a double).
 *                      A float beside a double takes only what it holds exactly.
 *   record             a missing field takes the schema's default; an unknown field is refused.
 * Logical types not named here, such as duration, are taken as their base type, as the Avro specification demands.
 */
import { ExactNumber } from '../kernel/exact-json.ts';
import { branchNameOf, isWrapped } from './avro-binary.ts';
import { mismatch, PayloadMismatch, within } from './payload-mismatch.ts';
import { type Codec, exactFloatCodec, isText, type JsonKind, scalarCodec } from './scalar-codec.ts';
import type { ArrayNode, MapNode, RecordNode, SchemaNode, UnionNode } from './schema-tree.ts';

type JsonObject = Record<string, unknown>;
/** Records being compiled or compiled already: a recursive type finds itself here. */
type Known = Map<RecordNode, Codec>;

/** Compiles the codec of a schema. */
export function compileCodec(node: SchemaNode, known: Known = new Map()): Codec {
  switch (node.kind) {
    case 'record':
      return known.get(node) ?? compileRecord(node, known);
    case 'array':
      return compileArray(node, known);
    case 'map':
      return compileMap(node, known);
    case 'union':
      return compileUnion(node, known);
    default:
      return scalarCodec(node);
  }
}

interface CompiledField {
  readonly name: string;
  readonly hasDefault: boolean;
  /** The name also stands on Object.prototype (`constructor`, `toString`): a missing one must not be found there. */
  readonly inherited: boolean;
  codec: Codec;
}

function compileRecord(node: RecordNode, known: Known): Codec {
  const fields: CompiledField[] = [];
  const names = new Set(node.fields.map((field) => field.name));
  const toAvro = (value: unknown): unknown => {
    if (!isObject(value)) throw mismatch(`an object (${node.name})`, value);
    let present = 0;
    for (const field of fields) {
      const { name } = field;
      const given = field.inherited && !Object.hasOwn(value, name) ? undefined : value[name];
      if (given === undefined) {
        if (!field.hasDefault) throw new PayloadMismatch('required by the schema, but missing', name);
        if (field.inherited) value[name] = undefined; // avsc writes the default of what reads as undefined
        continue;
      }
      present += 1;
      try {
        const converted = field.codec.toAvro(given);
        if (converted !== given) value[name] = converted;
      } catch (thrown) {
        throw within(thrown, name);
      }
    }
    if (Object.keys(value).length > present) refuseUnknown(value, names, node.name);
    return value;
  };
  const toPlain = (value: unknown): unknown => {
    const read = value as JsonObject;
    const plain: JsonObject = {};
    for (const { name, codec } of fields) plain[name] = codec.toPlain(read[name]);
    return plain;
  };
  const codec: Codec = { form: 'object', toAvro, toPlain };
  known.set(node, codec);
  for (const { name, hasDefault, type } of node.fields) {
    fields.push({ name, hasDefault, inherited: name in Object.prototype, codec: compileCodec(type, known) });
  }
  return codec;
}

/** Names the first field that the record does not have; one that is no legal name may be data, and is not shown. */
function refuseUnknown(value: JsonObject, names: ReadonlySet<string>, record: string): void {
  for (const name of Object.keys(value)) {
    if (names.has(name)) continue;
    if (/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name)) throw new PayloadMismatch(`not a field of ${record}`, name);
    throw new PayloadMismatch(`expected only fields of ${record}, got one with an illegal name`);
  }
}

function compileArray(node: ArrayNode, known: Known): Codec {
  const items = compileCodec(node.items, known);
  const toAvro = (value: unknown): unknown => {
    if (!Array.isArray(value)) throw mismatch('an array', value);
    for (let i = 0; i < value.length; i++) {
      try {
        value[i] = items.toAvro(value[i]);
      } catch (thrown) {
        throw within(thrown, i);
      }
    }
    return value;
  };
  return { form: 'array', toAvro, toPlain: (value) => (value as unknown[]).map(items.toPlain) };
}

function compileMap(node: MapNode, known: Known): Codec {
  const values = compileCodec(node.values, known);
  const toAvro = (value: unknown): unknown => {
    if (!isObject(value)) throw mismatch('an object (a map)', value);
    for (const key of Object.keys(value)) {
      if (key === '__proto__' || !isText(key)) throw new PayloadMismatch('has a key that is not allowed');
      try {
        value[key] = values.toAvro(value[key]);
      } catch (thrown) {
        throw within(thrown, '*');
      }
    }
    return value;
  };
  const toPlain = (value: unknown): unknown =>
    Object.fromEntries(Object.entries(value as JsonObject).map(([key, item]) => [key, values.toPlain(item)]));
  return { form: 'object', toAvro, toPlain };
}

interface CompiledBranch {
  readonly name: string;
  readonly codec: Codec;
}

function compileUnion(node: UnionNode, known: Known): Codec {
  const wrapped = isWrapped(node);
  const hasDouble = node.branches.some((branch) => branch.kind === 'double');
  const branches = node.branches
    .filter((branch) => branch.kind !== 'null')
    .map((branch) => ({
      name: branchNameOf(branch),
      codec: branch.kind === 'float' && hasDouble ? exactFloatCodec() : compileCodec(branch, known),
    }));
  const nullable = branches.length < node.branches.length;
  const only = branches.length === 1 ? branches[0] : undefined;
  if (only !== undefined && !wrapped) return optionalCodec(only.codec, nullable);

  const byName = new Map(branches.map((branch) => [branch.name, branch.codec]));
  const toAvro = (value: unknown): unknown => {
    if (value === null && nullable) return null;
    const { name, converted } = chooseBranch(branches, value);
    return { [name]: converted };
  };
  const toPlain = (value: unknown): unknown => {
    if (value === null) return null;
    const [[name, inner] = ['', undefined]] = Object.entries(value as JsonObject);
    return byName.get(name)?.toPlain(inner);
  };
  return { form: 'object', toAvro, toPlain };
}

/** A union of one type, usually with null: much the most frequent, so it costs one comparison. */
function optionalCodec(codec: Codec, nullable: boolean): Codec {
  if (!nullable) return codec;
  return {
    ...codec,
    toAvro: (value) => (value === null ? null : codec.toAvro(value)),
    toPlain: (value) => (value === null ? null : codec.toPlain(value)),
  };
}

function chooseBranch(branches: readonly CompiledBranch[], value: unknown): { name: string; converted: unknown } {
  const kind = jsonKindOf(value);
  const own = branches.filter(({ codec }) => codec.form === kind);
  const candidates = [...own, ...branches.filter(({ codec }) => codec.secondForm === kind)];
  let refusal: unknown = mismatch('a value of one of the union’s types', value);
  for (const [i, { name, codec }] of candidates.entries()) {
    // A branch that refuses may have converted half of the value in place: all but the last work on a copy.
    const attempt = i === candidates.length - 1 ? value : copyJson(value);
    try {
      return { name, converted: codec.toAvro(attempt) };
    } catch (thrown) {
      if (!(thrown instanceof PayloadMismatch)) throw thrown;
      if (candidates.length === 1) refusal = thrown; // only then is it clear which type was meant
    }
  }
  throw refusal;
}

function jsonKindOf(value: unknown): JsonKind {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean' || typeof value === 'string') return typeof value as JsonKind;
  return typeof value === 'object' && !(value instanceof ExactNumber) ? 'object' : 'number';
}

function copyJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyJson);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyJson(item)]));
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber);
}
