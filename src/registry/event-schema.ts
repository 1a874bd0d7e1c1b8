/**
 * One registered version of an event's schema, compiled: plain JSON text to Confluent wire format and back, and the check of bytes
 * that claim to be written with it.
 */
import type avsc from 'avsc';
import { parseExactJson } from '../kernel/exact-json.ts';
import { compileAvroType } from './avro-binary.ts';
import { compileCodec } from './json-codec.ts';
import { PayloadMismatch } from './payload-mismatch.ts';
import type { Codec } from './scalar-codec.ts';
import { parseSchema, type RecordNode, type SchemaNames, SchemaSyntaxError } from './schema-tree.ts';
import { compileBoundsCheck } from './wire-bounds.ts';
import { WIRE_HEADER_BYTES, type WireWriter } from './wire-format.ts';

/** A schema's text as the registry has it, with the texts it refers to, those without references of their own first. */
export interface SchemaText {
  readonly text: string;
  readonly references: readonly string[];
}

/**
 * Numbers that JSON.parse might round: 16 characters or more, or with an exponent. Only text with such a number is parsed with its
 * source in view, which is about five times slower. Digits inside strings can match too; that costs time, not correctness.
 */
const MAY_LOSE_DIGITS = /[:[,]\s*-?(?:[0-9][0-9.]{15,}|[0-9.]+[eE])/;

export class EventSchema {
  readonly id: number;
  /** Full name of the record, which is the event's type. */
  readonly name: string;
  readonly tree: RecordNode;
  readonly avro: avsc.Type;
  readonly #codec: Codec;
  readonly #checkBounds: (bytes: Buffer, start: number) => void;

  /** Throws SchemaSyntaxError if the schema is no record, or breaks Avro's rules. */
  constructor(id: number, source: SchemaText) {
    const names: SchemaNames = new Map();
    for (const reference of source.references) parseSchema(reference, names);
    const tree = parseSchema(source.text, names);
    if (tree.kind !== 'record') throw new SchemaSyntaxError(`an event’s schema is a record, not ${tree.kind}`);
    try {
      this.avro = compileAvroType(source.text, source.references);
    } catch (cause) {
      throw new SchemaSyntaxError(`the schema of ${tree.name} breaks Avro’s rules`, { cause });
    }
    this.id = id;
    this.name = tree.name;
    this.tree = tree;
    this.#codec = compileCodec(tree);
    this.#checkBounds = compileBoundsCheck(tree);
  }

  /** Encodes plain JSON text. Throws PayloadMismatch. */
  encode(text: string, writer: WireWriter): Buffer {
    return guardDepth(() => writer.write(this.id, this.avro, this.#codec.toAvro(parsePayload(text))));
  }

  /** Checks a value in wire format to its last byte; its header was read before. Throws PayloadMismatch. */
  check(value: Buffer): void {
    guardDepth(() => this.#checkBounds(value, WIRE_HEADER_BYTES));
  }

  /** Decodes a value in wire format to plain JSON. Throws PayloadMismatch. */
  decode(value: Buffer): unknown {
    this.check(value);
    return guardDepth(() => this.#codec.toPlain(this.avro.fromBuffer(value.subarray(WIRE_HEADER_BYTES))));
  }

  /** A decoder of `writer`'s bytes into this schema's form. Throws SchemaSyntaxError if it cannot read them. */
  readerOf(writer: EventSchema): (value: Buffer) => unknown {
    let resolver: ReturnType<avsc.Type['createResolver']>;
    try {
      resolver = this.avro.createResolver(writer.avro);
    } catch (cause) {
      throw new SchemaSyntaxError(`the reader schema ${this.name} cannot read schema id ${writer.id}`, { cause });
    }
    return (value) => {
      writer.check(value);
      const read = (): unknown => this.avro.fromBuffer(value.subarray(WIRE_HEADER_BYTES), resolver);
      return guardDepth(() => this.#codec.toPlain(read()));
    };
  }
}

function parsePayload(text: string): unknown {
  try {
    return MAY_LOSE_DIGITS.test(text) ? parseExactJson(text) : JSON.parse(text);
  } catch {
    throw new PayloadMismatch('expected well-formed JSON'); // without the cause: its message quotes the payload
  }
}

/** A recursive type can nest deeper than the stack: that is the payload's fault, not ours. */
function guardDepth<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof RangeError) throw new PayloadMismatch('is nested too deeply');
    throw thrown;
  }
}
