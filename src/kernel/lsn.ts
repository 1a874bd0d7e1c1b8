/**
 * Log sequence numbers: a byte position in the Postgres WAL. Their text form is not zero-padded (`1/A` sorts before
 * `0/FFFFFFFF` as text), so inside Ferry an LSN is always this branded bigint, parsed and printed here and nowhere else.
 */
export type Lsn = bigint & { readonly __brand: 'Lsn' };

const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Parses Postgres's `XXX/XXX`. Throws a TypeError on anything else. */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (match === null) throw new TypeError(`not an LSN: ${JSON.stringify(text)}`);
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Prints as Postgres does: two hexadecimal halves, upper case, not padded. */
export function formatLsn(lsn: Lsn): string {
  const high = Number(lsn >> 32n);
  const low = Number(BigInt.asUintN(32, lsn)); // as numbers: printing a bigint costs several times as much, and this is done for every event
  return `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`;
}

/** Reads the eight bytes that the replication protocol uses. */
export function readLsn(buffer: Buffer, offset: number): Lsn {
  return buffer.readBigUInt64BE(offset) as Lsn;
}

export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}
