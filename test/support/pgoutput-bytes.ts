/** pgoutput messages as a server sends them. Source: Postgres documentation, "Logical Replication Message Formats", protocol version 1. */
import { bytes, int16, int32, int64 } from './bytes.ts';

/** Microseconds since 2000 for a moment of Unix time. */
const EPOCH_MS = 946_684_800_000;

const byte1 = (letter: string) => Buffer.from(letter);
const byte = (value: number) => Buffer.from([value]);
const cstring = (value: string) => Buffer.from(`${value}\0`);
const time = (unixMs: number) => int64(BigInt(unixMs - EPOCH_MS) * 1000n);

export const begin = (finalLsn: bigint, unixMs: number, xid: number): Buffer =>
  bytes(byte1('B'), int64(finalLsn), time(unixMs), uint32(xid));

export const commit = (commitLsn: bigint, endLsn: bigint, unixMs: number): Buffer =>
  bytes(byte1('C'), byte(0), int64(commitLsn), int64(endLsn), time(unixMs));

export function relation(id: number, schema: string, table: string, columns: readonly string[]): Buffer {
  const described = columns.map((name, i) => bytes(byte(i === 0 ? 1 : 0), cstring(name), int32(25), int32(-1)));
  return bytes(
    ...[byte1('R'), uint32(id), cstring(schema), cstring(table), byte1('d'), int16(columns.length)],
    ...described,
  );
}

/** A tuple of texts and nulls, without the message around it. */
export function tuple(values: ReadonlyArray<string | null>): Buffer {
  return bytes(
    int16(values.length),
    ...values.map((value) =>
      value === null ? byte1('n') : bytes(byte1('t'), int32(Buffer.byteLength(value)), Buffer.from(value)),
    ),
  );
}

export const insert = (relationId: number, values: ReadonlyArray<string | null>): Buffer =>
  bytes(byte1('I'), uint32(relationId), byte1('N'), tuple(values));

export const message = (prefix: string, content: Buffer, lsn = 0n, transactional = true): Buffer =>
  bytes(byte1('M'), byte(transactional ? 1 : 0), int64(lsn), cstring(prefix), int32(content.length), content);

function uint32(value: number): Buffer {
  return int32(value | 0);
}
