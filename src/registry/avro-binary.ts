/**
 * avsc's types as Ferry uses them: integers of 64 bits without a digit lost, and unions whose values name their branch unless
 * there is only one besides null.
 */
import avsc from 'avsc';
import type { SchemaNode, UnionNode } from './schema-tree.ts';

const { types, Type } = avsc;

/** Exactly the bytes of a zig-zag varint, one scratch per length, so that writing a long allocates nothing. */
const VARINTS: readonly Buffer[] = Array.from({ length: 11 }, (_, length) => Buffer.alloc(length));

/**
 * The long type: numbers while they are exact, bigints beyond; avsc's own refuses what a double cannot hold. With `noUnpack` avsc
 * hands over the varint as it stands.
 */
const LONG = types.LongType.__with(
  {
    isValid: (value: unknown) => Number.isSafeInteger(value) || typeof value === 'bigint',
    toBuffer: (value: number | bigint) => (typeof value === 'number' ? varintOfNumber(value) : varintOfBigint(value)),
    fromBuffer: (bytes: Buffer) => longOfVarint(bytes),
    toJSON: (value: number | bigint) => (typeof value === 'bigint' ? value.toString() : value),
    fromJSON: (value: number | string) => (typeof value === 'string' ? BigInt(value) : value),
    compare: (a: number | bigint, b: number | bigint) => (a < b ? -1 : a > b ? 1 : 0),
  },
  true,
);

function varintOfNumber(value: number): Buffer {
  // Zig-zag without bit operations beyond 32 bits; doubling may leave the exact range, which the bigint way does not.
  if (value > 4_503_599_627_370_495 || value < -4_503_599_627_370_496) return varintOfBigint(BigInt(value));
  let left = value < 0 ? -2 * value - 1 : 2 * value;
  let length = 1;
  for (let bound = 128; left >= bound; bound *= 128) length += 1;
  const bytes = VARINTS[length] as Buffer;
  for (let i = 0; i < length - 1; i++) {
    bytes[i] = (left & 0x7f) | 0x80;
    left = left > 0xffffffff ? Math.floor(left / 128) : left >>> 7;
  }
  bytes[length - 1] = left;
  return bytes;
}

function varintOfBigint(value: bigint): Buffer {
  let left = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  let length = 1;
  for (let rest = left >> 7n; rest > 0n; rest >>= 7n) length += 1;
  const bytes = VARINTS[length] as Buffer;
  for (let i = 0; i < length; i++) {
    bytes[i] = Number(left & 0x7fn) | (i < length - 1 ? 0x80 : 0);
    left >>= 7n;
  }
  return bytes;
}

function longOfVarint(bytes: Buffer): number | bigint {
  if (bytes.length <= 7) {
    let raw = 0;
    for (let i = bytes.length - 1; i >= 0; i--) raw = raw * 128 + ((bytes[i] ?? 0) & 0x7f);
    return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
  }
  let raw = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) raw = (raw << 7n) | BigInt((bytes[i] ?? 0) & 0x7f);
  const value = BigInt.asIntN(64, (raw >> 1n) ^ -(raw & 1n));
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Whether avsc's value of the union is `{branch: value}` rather than the bare value. */
export function isWrapped(node: UnionNode): boolean {
  return node.branches.filter((branch) => branch.kind !== 'null').length !== 1;
}

/** The key of a branch in a wrapped union's value. */
export function branchNameOf(node: SchemaNode): string {
  return 'name' in node ? node.name : node.kind;
}

type RawSchema = Parameters<typeof Type.forSchema>[0];
type Options = NonNullable<Parameters<typeof Type.forSchema>[1]>;

/**
 * Compiles a schema with avsc; `references` are the texts of schemas that it refers to, those without references first. The options
 * object is fresh per schema, for avsc keeps the names it met in it. Throws avsc's Error.
 */
export function compileAvroType(text: string, references: readonly string[] = []): avsc.Type {
  const options: Partial<Options> = { registry: {}, omitRecordMethods: true, typeHook: replaceTypes };
  for (const reference of references) Type.forSchema(JSON.parse(reference) as RawSchema, options);
  return Type.forSchema(JSON.parse(text) as RawSchema, options);
}

function replaceTypes(schema: RawSchema, options: Options): avsc.Type | undefined {
  if (Array.isArray(schema)) {
    const others = schema.filter((branch) => branch !== 'null' && !isDeclaration(branch, 'null'));
    const Union = others.length === 1 ? types.UnwrappedUnionType : types.WrappedUnionType;
    return new Union(schema, options);
  }
  return schema === 'long' || isDeclaration(schema, 'long') ? LONG : undefined;
}

function isDeclaration(schema: unknown, type: string): boolean {
  return typeof schema === 'object' && schema !== null && 'type' in schema && schema.type === type;
}
