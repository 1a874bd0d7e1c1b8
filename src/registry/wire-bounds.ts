/**
 * Checks Avro bytes to the last one before anything decodes them. avsc notices the end of a buffer only when it is done, and believes
 * an array's count: a few broken bytes could keep the relay busy for ever, or take all its memory. This walks the same schema without
 * building values, and stops at the first byte that cannot be.
 */
import { isUtf8 } from 'node:buffer';
import { PayloadMismatch, within } from './payload-mismatch.ts';
import type { RecordNode, SchemaNode } from './schema-tree.ts';

type Walk = (cursor: Cursor) => void;

/** Items that take no bytes (nulls, empty records) are bounded by this count, since the length of the buffer does not bound them. */
const MAX_EMPTY_ITEMS = 100_000;

class Cursor {
  at: number;
  readonly bytes: Buffer;
  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  skip(length: number): void {
    if (length < 0 || length > this.bytes.length - this.at) throw new PayloadMismatch('the bytes end too early');
    this.at += length;
  }

  /** A zig-zag varint of at most 64 bits; exact up to 2^53, which is all that lengths and indexes need. */
  long(): number {
    let raw = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.bytes[this.at];
      if (byte === undefined) throw new PayloadMismatch('the bytes end too early');
      this.at += 1;
      raw += (byte & 0x7f) * scale;
      scale *= 128;
      if (i === 9 && byte > 1) break;
      if (byte < 0x80) return raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
    }
    throw new PayloadMismatch('an integer has more than 64 bits');
  }
}

/** Compiles the check of a schema: it takes the bytes and where they begin, and throws PayloadMismatch. */
export function compileBoundsCheck(node: SchemaNode): (bytes: Buffer, start: number) => void {
  const walk = compileWalk(node, new Map());
  return (bytes, start) => {
    const cursor = new Cursor(bytes, start);
    walk(cursor);
    if (cursor.at !== bytes.length) throw new PayloadMismatch('there are bytes after the record’s end');
  };
}

function compileWalk(node: SchemaNode, known: Map<RecordNode, Walk>): Walk {
  switch (node.kind) {
    case 'null':
      return () => {};
    case 'boolean':
      return walkBoolean;
    case 'int':
      return walkInt;
    case 'long':
      return (cursor) => void cursor.long();
    case 'float':
      return (cursor) => cursor.skip(4);
    case 'double':
      return (cursor) => cursor.skip(8);
    case 'bytes':
      return (cursor) => cursor.skip(cursor.long());
    case 'string':
      return walkString;
    case 'fixed':
      return (cursor) => cursor.skip(node.size);
    case 'enum':
      return walkIndex('an enum’s symbol', node.symbols.length, () => {});
    case 'array':
      return walkBlocks(compileWalk(node.items, known));
    case 'map':
      return walkBlocks(walkEntry(compileWalk(node.values, known)));
    case 'union': {
      const branches = node.branches.map((branch) => compileWalk(branch, known));
      return walkIndex('a union’s branch', branches.length, (cursor, index) => branches[index]?.(cursor));
    }
    case 'record':
      return known.get(node) ?? walkRecord(node, known);
  }
}

function walkBoolean(cursor: Cursor): void {
  const byte = cursor.bytes[cursor.at];
  cursor.skip(1);
  if (byte !== 0 && byte !== 1) throw new PayloadMismatch('a boolean is neither 0 nor 1');
}

function walkInt(cursor: Cursor): void {
  const value = cursor.long();
  if (value !== (value | 0)) throw new PayloadMismatch('an int has more than 32 bits');
}

function walkString(cursor: Cursor): void {
  const length = cursor.long();
  const start = cursor.at;
  cursor.skip(length);
  if (!isUtf8(cursor.bytes.subarray(start, cursor.at))) throw new PayloadMismatch('a string is not UTF-8');
}

function walkIndex(what: string, count: number, then: (cursor: Cursor, index: number) => void): Walk {
  return (cursor) => {
    const index = cursor.long();
    if (index < 0 || index >= count) throw new PayloadMismatch(`${what} is not one of the ${count} in the schema`);
    then(cursor, index);
  };
}

function walkBlocks(item: Walk): Walk {
  return (cursor) => {
    let empty = 0;
    for (let count = cursor.long(); count !== 0; count = cursor.long()) {
      const blockBytes = count < 0 ? cursor.long() : null;
      const blockStart = cursor.at;
      for (let left = Math.abs(count); left > 0; left--) {
        const start = cursor.at;
        item(cursor);
        if (cursor.at === start) empty += 1;
        if (empty > MAX_EMPTY_ITEMS) throw new PayloadMismatch(`more than ${MAX_EMPTY_ITEMS} items without content`);
      }
      if (blockBytes !== null && cursor.at - blockStart !== blockBytes) {
        throw new PayloadMismatch('a block’s size is not that of its items');
      }
    }
  };
}

function walkEntry(value: Walk): Walk {
  return (cursor) => {
    const start = cursor.at;
    walkString(cursor);
    // avsc would take this key for the object's prototype and lose the entry
    if (cursor.bytes.toString('latin1', cursor.at - 9, cursor.at) === '__proto__' && cursor.at - start === 10) {
      throw new PayloadMismatch('has a key that is not allowed');
    }
    try {
      value(cursor);
    } catch (thrown) {
      throw within(thrown, '*');
    }
  };
}

function walkRecord(node: RecordNode, known: Map<RecordNode, Walk>): Walk {
  const fields: Array<{ name: string; walk: Walk }> = [];
  const walk: Walk = (cursor) => {
    for (const field of fields) {
      try {
        field.walk(cursor);
      } catch (thrown) {
        throw within(thrown, field.name);
      }
    }
  };
  known.set(node, walk);
  for (const field of node.fields) fields.push({ name: field.name, walk: compileWalk(field.type, known) });
  return walk;
}
