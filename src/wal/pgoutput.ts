/**
 * Decodes pgoutput, protocol version 1, with messages. Source: Postgres documentation, "Logical Replication Message Formats".
 * Tuples stay slices of the received buffer: what a column means is for whoever knows the table.
 */
import { type Lsn, readLsn } from '../kernel/lsn.ts';

export interface Relation {
  readonly id: number;
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly string[];
}

export type PgOutputMessage =
  | { readonly tag: 'begin'; readonly finalLsn: Lsn; readonly commitTimeMs: number; readonly xid: number }
  | { readonly tag: 'commit'; readonly commitLsn: Lsn; readonly endLsn: Lsn; readonly commitTimeMs: number }
  | { readonly tag: 'relation'; readonly relation: Relation }
  | { readonly tag: 'insert'; readonly relationId: number; readonly tuple: Buffer }
  | {
      readonly tag: 'message';
      readonly transactional: boolean;
      readonly lsn: Lsn;
      readonly prefix: string;
      readonly content: Buffer;
    }
  | { readonly tag: 'other'; readonly letter: string };

/** Milliseconds between the epochs of Unix (1970) and Postgres (2000). */
const POSTGRES_EPOCH_MS = 946_684_800_000;

export function decodePgOutput(buffer: Buffer): PgOutputMessage {
  switch (buffer[0]) {
    case 0x49: // I
      return { tag: 'insert', relationId: buffer.readUInt32BE(1), tuple: buffer.subarray(6) }; // 5 is always 'N', the new tuple
    case 0x42: // B
      return {
        tag: 'begin',
        finalLsn: readLsn(buffer, 1),
        commitTimeMs: readTimeMs(buffer, 9),
        xid: buffer.readUInt32BE(17),
      };
    case 0x43: // C
      return {
        tag: 'commit',
        commitLsn: readLsn(buffer, 2),
        endLsn: readLsn(buffer, 10),
        commitTimeMs: readTimeMs(buffer, 18),
      };
    case 0x52: // R
      return { tag: 'relation', relation: decodeRelation(buffer) };
    case 0x4d: // M
      return decodeMessage(buffer);
    default:
      return { tag: 'other', letter: String.fromCharCode(buffer[0] ?? 0) };
  }
}

function readTimeMs(buffer: Buffer, offset: number): number {
  return POSTGRES_EPOCH_MS + Number(buffer.readBigInt64BE(offset) / 1000n);
}

function decodeRelation(buffer: Buffer): Relation {
  const cursor = { at: 5 };
  const schema = readCString(buffer, cursor);
  const table = readCString(buffer, cursor);
  cursor.at += 1; // replica identity
  const columns: string[] = [];
  const count = buffer.readUInt16BE(cursor.at);
  cursor.at += 2;
  for (let i = 0; i < count; i++) {
    cursor.at += 1; // flags
    columns.push(readCString(buffer, cursor));
    cursor.at += 8; // type oid, type modifier
  }
  return { id: buffer.readUInt32BE(1), schema, table, columns };
}

function decodeMessage(buffer: Buffer): PgOutputMessage {
  const cursor = { at: 10 };
  const prefix = readCString(buffer, cursor);
  const length = buffer.readUInt32BE(cursor.at);
  const content = buffer.subarray(cursor.at + 4, cursor.at + 4 + length);
  return { tag: 'message', transactional: (buffer.readUInt8(1) & 1) === 1, lsn: readLsn(buffer, 2), prefix, content };
}

function readCString(buffer: Buffer, cursor: { at: number }): string {
  const end = buffer.indexOf(0, cursor.at);
  const text = buffer.toString('utf8', cursor.at, end);
  cursor.at = end + 1;
  return text;
}
