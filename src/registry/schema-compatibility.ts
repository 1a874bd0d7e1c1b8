/**
 * Whether a reader with one schema understands what a writer with another wrote, and if not, where and how to mend it. The registry
 * has the last word; but it only says no (Apicurio gives no reasons at all), judges by the subject's level, which may be wrong, and
 * knows nothing of a decimal whose scale changed, which every Avro library would misread in silence.
 * Source: Avro 1.12 specification, "Schema Resolution".
 */
import type { CompatibilityLevel } from './registry-client.ts';
import type { EnumNode, FieldNode, LogicalType, RecordNode, SchemaNode, UnionNode } from './schema-tree.ts';

export interface Break {
  /** JSON pointer into the event. */
  readonly path: string;
  /** What fails, said of the version it fails against. */
  readonly problem: string;
  readonly mend: string;
}

/** `backward`: the new schema reads old events; `forward`: readers with the old schema read new events. */
type Direction = 'backward' | 'forward';

export interface SchemaVersion {
  readonly version: number;
  readonly tree: SchemaNode;
}

/** What breaks if `next` follows `versions` (ascending) under the level. */
export function findBreaks(next: SchemaNode, versions: readonly SchemaVersion[], level: CompatibilityLevel): Break[] {
  if (level === 'NONE') return [];
  const judged = level.endsWith('_TRANSITIVE') ? versions : versions.slice(-1);
  const breaks: Break[] = [];
  for (const { version, tree } of judged) {
    const against = (direction: Direction): Comparison => new Comparison(direction, version, breaks);
    if (!level.startsWith('FORWARD')) against('backward').compare(next, tree, '');
    if (!level.startsWith('BACKWARD')) against('forward').compare(tree, next, '');
  }
  const seen = new Set<string>();
  return breaks.filter(({ path, problem }) => !seen.has(`${path} ${problem}`) && seen.add(`${path} ${problem}`));
}

const PROMOTIONS: Readonly<Record<string, readonly string[]>> = {
  int: ['long', 'float', 'double'],
  long: ['float', 'double'],
  float: ['double'],
  string: ['bytes'],
  bytes: ['string'],
};

class Comparison {
  readonly #direction: Direction;
  readonly #version: number;
  readonly #breaks: Break[];
  /** Pairs of records under comparison or done: recursive types end here. */
  readonly #seen = new Set<string>();

  constructor(direction: Direction, version: number, breaks: Break[]) {
    this.#direction = direction;
    this.#version = version;
    this.#breaks = breaks;
  }

  /** Adds what `reader` cannot understand of what `writer` wrote. */
  compare(reader: SchemaNode, writer: SchemaNode, path: string): void {
    if (writer.kind === 'union') this.#compareWriterUnion(reader, writer.branches, path);
    else if (reader.kind === 'union') this.#compareReaderUnion(reader, writer, path);
    else if (reader.kind === 'record' && writer.kind === 'record') this.#compareRecords(reader, writer, path);
    else if (reader.kind === 'array' && writer.kind === 'array') this.compare(reader.items, writer.items, `${path}/*`);
    else if (reader.kind === 'map' && writer.kind === 'map') this.compare(reader.values, writer.values, `${path}/*`);
    else if (reader.kind === 'enum' && writer.kind === 'enum') this.#compareEnums(reader, writer, path);
    else this.#compareScalars(reader, writer, path);
  }

  #compareReaderUnion(reader: UnionNode, writer: SchemaNode, path: string): void {
    if (reader.branches.some((branch) => this.#reads(branch, writer))) return;
    const { older, newer } = this.#sides(describe(reader), describe(writer));
    this.#report(path, `the type was ${older} and is ${newer}`, 'keep the type; put the new form into a new field');
  }

  #compareEnums(reader: EnumNode, writer: EnumNode, path: string): void {
    const unknown = writer.symbols.filter((symbol) => !reader.symbols.includes(symbol));
    if (unknown.length === 0 || reader.fallback !== null) return;
    const problem = `the symbol ${unknown.join(', ')} of ${reader.name} is ${this.#forward ? 'new' : 'gone'}`;
    this.#report(path, problem, 'an enum may change only if all its versions have a "default" symbol');
  }

  #compareWriterUnion(reader: SchemaNode, branches: readonly SchemaNode[], path: string): void {
    const readers = reader.kind === 'union' ? reader.branches : [reader];
    for (const branch of branches) {
      if (readers.some((candidate) => this.#reads(candidate, branch))) continue;
      const alike = readers.filter((candidate) => candidate.kind === branch.kind);
      if (alike.length === 1 && alike[0] !== undefined) {
        this.compare(alike[0], branch, path); // says precisely what within it breaks
        continue;
      }
      const what = `the type ${describe(branch)} is ${this.#forward ? 'new' : 'gone'}`;
      this.#report(path, what, 'a union keeps its branches; add a new optional field instead');
    }
  }

  #compareRecords(reader: RecordNode, writer: RecordNode, path: string): void {
    if (reader.name !== writer.name && !reader.aliases.includes(writer.name)) {
      const { older, newer } = this.#sides(reader.name, writer.name);
      this.#report(path, `the record ${older} is called ${newer}`, `keep the name ${older}`);
      return;
    }
    const pair = `${reader.name} ${writer.name}`;
    if (this.#seen.has(pair)) return;
    this.#seen.add(pair);
    for (const field of reader.fields) {
      const written = writer.fields.find(({ name }) => name === field.name || field.aliases.includes(name));
      if (written !== undefined) this.compare(field.type, written.type, `${path}/${field.name}`);
      else if (!field.hasDefault) this.#reportMissing(field, `${path}/${field.name}`);
    }
  }

  #reportMissing(field: FieldNode, path: string): void {
    if (this.#forward) {
      const problem = `the field is gone, and readers with version ${this.#version} have no default for it`;
      this.#report(path, problem, `put ${field.name} back; only fields with a default may be removed`);
    } else {
      const problem = `the field is new and has no default, which events of version ${this.#version} need`;
      this.#report(
        path,
        problem,
        `give ${field.name} a "default", such as a union with null first and "default": null`,
      );
    }
  }

  #compareScalars(reader: SchemaNode, writer: SchemaNode, path: string): void {
    const { older, newer } = this.#sides(describe(reader), describe(writer));
    const sameKind = reader.kind === writer.kind && sizeOf(reader) === sizeOf(writer);
    const promotes = PROMOTIONS[writer.kind]?.includes(reader.kind) === true;
    const sameMeaning = describeLogical(logicalOf(reader)) === describeLogical(logicalOf(writer));
    if ((sameKind || promotes) && sameMeaning) return;
    this.#report(path, `the type was ${older} and is ${newer}`, `keep ${older}; put the new form into a new field`);
  }

  #reads(reader: SchemaNode, writer: SchemaNode): boolean {
    const breaks: Break[] = [];
    const trial = new Comparison(this.#direction, this.#version, breaks);
    for (const pair of this.#seen) trial.#seen.add(pair);
    trial.compare(reader, writer, '');
    return breaks.length === 0;
  }

  get #forward(): boolean {
    return this.#direction === 'forward';
  }

  #sides(reader: string, writer: string): { older: string; newer: string } {
    return this.#forward ? { older: reader, newer: writer } : { older: writer, newer: reader };
  }

  #report(path: string, problem: string, mend: string): void {
    this.#breaks.push({ path, problem, mend });
  }
}

function sizeOf(node: SchemaNode): number | null {
  return node.kind === 'fixed' ? node.size : null;
}

function logicalOf(node: SchemaNode): LogicalType | null {
  return 'logical' in node ? node.logical : null;
}

function describeLogical(logical: LogicalType | null): string {
  if (logical === null) return '';
  if (logical.name === 'decimal') return `decimal(${logical.precision}, ${logical.scale})`;
  if (!('fractionDigits' in logical)) return logical.name;
  return `${logical.name}-${{ 3: 'millis', 6: 'micros', 9: 'nanos' }[logical.fractionDigits]}`;
}

function describe(node: SchemaNode): string {
  const logical = describeLogical(logicalOf(node));
  if (node.kind === 'union') return `a union of ${node.branches.map(describe).join(', ')}`;
  if ('name' in node) return `${node.kind} ${node.name}${node.kind === 'fixed' ? `(${node.size})` : ''}`;
  return logical === '' ? node.kind : `${node.kind} ${logical}`;
}
