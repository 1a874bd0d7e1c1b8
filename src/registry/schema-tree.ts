/**
 * An Avro schema as a tree with its names resolved: what the JSON codec, the bounds check, the type generator and the compatibility
 * report walk. avsc compiles the same text for the binary; its types keep neither logical types nor Ferry's own attributes.
 *
 * Ferry's attributes in a schema file:
 *   "ferry.aggregatetype"  on the event's record: the aggregatetype whose topic the event goes to;
 *   "ferry.compatibility"  on the event's record: the subject's level, FULL_TRANSITIVE when absent;
 *   "ferry.pii"            on a field: it holds personal data.
 * Source: Avro 1.12 specification, "Schema Declaration", "Names", "Logical Types".
 */

export type LogicalType =
  | { readonly name: 'decimal'; readonly precision: number; readonly scale: number }
  | { readonly name: 'timestamp' | 'local-timestamp' | 'time'; readonly fractionDigits: 3 | 6 | 9 }
  | { readonly name: 'date' | 'uuid' };

export interface PrimitiveNode {
  readonly kind: 'null' | 'boolean' | 'int' | 'long' | 'float' | 'double' | 'bytes' | 'string';
  readonly logical: LogicalType | null;
}
export interface FixedNode {
  readonly kind: 'fixed';
  readonly name: string;
  readonly size: number;
  readonly logical: LogicalType | null;
}
export interface EnumNode {
  readonly kind: 'enum';
  readonly name: string;
  readonly doc: string;
  readonly symbols: readonly string[];
  /** The symbol that readers take for one that they do not know. */
  readonly fallback: string | null;
}
export interface FieldNode {
  readonly name: string;
  readonly doc: string;
  readonly type: SchemaNode;
  readonly hasDefault: boolean;
  readonly aliases: readonly string[];
  readonly pii: boolean;
}
export interface RecordNode {
  readonly kind: 'record';
  /** Full name: namespace and name. */
  readonly name: string;
  readonly doc: string;
  readonly aliases: readonly string[];
  readonly fields: readonly FieldNode[];
  /** `ferry.` attributes of the record itself. */
  readonly attributes: Readonly<Record<string, string>>;
}
export interface ArrayNode {
  readonly kind: 'array';
  readonly items: SchemaNode;
}
export interface MapNode {
  readonly kind: 'map';
  readonly values: SchemaNode;
}
export interface UnionNode {
  readonly kind: 'union';
  readonly branches: readonly SchemaNode[];
}
export type NamedNode = RecordNode | EnumNode | FixedNode;
export type SchemaNode = PrimitiveNode | NamedNode | ArrayNode | MapNode | UnionNode;

/** A schema that breaks Avro's rules; the message says where. */
export class SchemaSyntaxError extends Error {
  override readonly name = 'SchemaSyntaxError';
}

type RawObject = Readonly<Record<string, unknown>>;

const PRIMITIVES: ReadonlySet<string> = new Set([
  'null',
  'boolean',
  'int',
  'long',
  'float',
  'double',
  'bytes',
  'string',
]);
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Names that are known so far, by full name; shared by a schema and those that it refers to. */
export type SchemaNames = Map<string, NamedNode>;

/** Parses the text of a schema. Throws SchemaSyntaxError. `names` receives the named types and may bring those of references. */
export function parseSchema(text: string, names: SchemaNames = new Map()): SchemaNode {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new SchemaSyntaxError('the schema is not JSON', { cause });
  }
  return parseNode(raw, '', names);
}

function parseNode(raw: unknown, namespace: string, names: SchemaNames): SchemaNode {
  if (typeof raw === 'string') return resolveName(raw, namespace, names);
  if (Array.isArray(raw)) return { kind: 'union', branches: raw.map((branch) => parseNode(branch, namespace, names)) };
  if (!isRawObject(raw)) throw new SchemaSyntaxError(`a schema is a name, an array or an object, not ${typeof raw}`);
  switch (raw.type) {
    case 'record':
    case 'error':
      return parseRecord(raw, namespace, names);
    case 'enum':
      return parseEnum(raw, namespace, names);
    case 'fixed':
      return parseFixed(raw, namespace, names);
    case 'array':
      return { kind: 'array', items: parseNode(raw.items, namespace, names) };
    case 'map':
      return { kind: 'map', values: parseNode(raw.values, namespace, names) };
    default: {
      const node = parseNode(raw.type, namespace, names);
      return raw.logicalType === undefined || !isPrimitive(node)
        ? node
        : { ...node, logical: logicalTypeOf(raw, node.kind, null) };
    }
  }
}

function resolveName(name: string, namespace: string, names: SchemaNames): SchemaNode {
  if (PRIMITIVES.has(name)) return { kind: name as PrimitiveNode['kind'], logical: null };
  const known = names.get(qualify(name, namespace)) ?? names.get(name);
  if (known === undefined) throw new SchemaSyntaxError(`the type ${JSON.stringify(name)} is not defined`);
  return known;
}

function parseRecord(raw: RawObject, namespace: string, names: SchemaNames): RecordNode {
  const name = fullNameOf(raw, namespace);
  if (!Array.isArray(raw.fields)) throw new SchemaSyntaxError(`record ${name} has no fields`);
  const fields: FieldNode[] = [];
  const attributes = Object.entries(raw).filter(([key]) => key.startsWith('ferry.'));
  const inner = namespaceOf(name);
  const node: RecordNode = {
    kind: 'record',
    name,
    doc: textOf(raw.doc),
    aliases: textsOf(raw.aliases).map((alias) => qualify(alias, inner)),
    fields,
    attributes: Object.fromEntries(attributes.map(([key, value]) => [key, String(value)])),
  };
  define(node, names); // before its fields: they may refer to it
  for (const field of raw.fields) fields.push(parseField(field, name, inner, names));
  return node;
}

function parseField(raw: unknown, record: string, namespace: string, names: SchemaNames): FieldNode {
  if (!isRawObject(raw) || typeof raw.name !== 'string' || !NAME.test(raw.name) || raw.name === '__proto__') {
    throw new SchemaSyntaxError(`record ${record} has a field without a legal name`);
  }
  return {
    name: raw.name,
    doc: textOf(raw.doc),
    type: parseNode(raw.type, namespace, names),
    hasDefault: raw.default !== undefined,
    aliases: textsOf(raw.aliases),
    pii: raw['ferry.pii'] === true,
  };
}

function parseEnum(raw: RawObject, namespace: string, names: SchemaNames): EnumNode {
  const fallback = typeof raw.default === 'string' ? raw.default : null;
  const name = fullNameOf(raw, namespace);
  return define({ kind: 'enum', name, doc: textOf(raw.doc), symbols: textsOf(raw.symbols), fallback }, names);
}

function parseFixed(raw: RawObject, namespace: string, names: SchemaNames): FixedNode {
  const name = fullNameOf(raw, namespace);
  const size = raw.size;
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 0) {
    throw new SchemaSyntaxError(`fixed ${name} has no size`);
  }
  return define({ kind: 'fixed', name, size, logical: logicalTypeOf(raw, 'fixed', size) }, names);
}

/** The logical type of a declaration; one that is unknown, or wrong for its base, is ignored, as the specification demands. */
function logicalTypeOf(raw: RawObject, base: string, size: number | null): LogicalType | null {
  const logical = `${base}/${String(raw.logicalType)}`;
  switch (logical) {
    case 'bytes/decimal':
    case 'fixed/decimal': {
      const { precision, scale = 0 } = raw;
      if (!Number.isInteger(precision) || !Number.isInteger(scale)) return null;
      const [digits, fraction] = [Number(precision), Number(scale)];
      if (digits <= 0 || fraction < 0 || fraction > digits) return null;
      if (size !== null && digits > Math.floor(Math.log10(2) * (8 * size - 1))) return null;
      return { name: 'decimal', precision: digits, scale: fraction };
    }
    case 'string/uuid':
      return { name: 'uuid' };
    case 'fixed/uuid':
      return size === 16 ? { name: 'uuid' } : null;
    case 'int/date':
      return { name: 'date' };
    case 'int/time-millis':
      return { name: 'time', fractionDigits: 3 };
    case 'long/time-micros':
      return { name: 'time', fractionDigits: 6 };
    default: {
      const match = /^long\/(timestamp|local-timestamp)-(millis|micros|nanos)$/.exec(logical);
      if (match === null) return null;
      const fractionDigits = match[2] === 'millis' ? 3 : match[2] === 'micros' ? 6 : 9;
      return { name: match[1] === 'timestamp' ? 'timestamp' : 'local-timestamp', fractionDigits };
    }
  }
}

function define<Node extends NamedNode>(node: Node, names: SchemaNames): Node {
  if (names.has(node.name)) throw new SchemaSyntaxError(`the type ${node.name} is defined twice`);
  names.set(node.name, node);
  return node;
}

function fullNameOf(raw: RawObject, namespace: string): string {
  if (typeof raw.name !== 'string' || !raw.name.split('.').every((part) => NAME.test(part))) {
    throw new SchemaSyntaxError(`a ${String(raw.type)} has no legal name`);
  }
  return qualify(raw.name, typeof raw.namespace === 'string' ? raw.namespace : namespace);
}

function qualify(name: string, namespace: string): string {
  return name.includes('.') || namespace === '' ? name : `${namespace}.${name}`;
}

function namespaceOf(fullName: string): string {
  return fullName.slice(0, Math.max(0, fullName.lastIndexOf('.')));
}

function isRawObject(raw: unknown): raw is RawObject {
  return typeof raw === 'object' && raw !== null && !Array.isArray(raw);
}

function isPrimitive(node: SchemaNode): node is PrimitiveNode {
  return PRIMITIVES.has(node.kind);
}

function textOf(raw: unknown): string {
  return typeof raw === 'string' ? raw : '';
}

function textsOf(raw: unknown): string[] {
  return Array.isArray(raw) ? raw.filter((item) => typeof item === 'string') : [];
}
