/**
 * CRC-32C (Castagnoli), as Kafka's record batches carry it (RFC 3720, appendix B.4). Slicing by eight: eight tables let one step take
 * eight bytes. Node's zlib has only CRC-32.
 */
const POLYNOMIAL = 0x82f63b78;

const TABLES = makeTables();

function makeTables(): Uint32Array[] {
  const bytewise = new Uint32Array(256).map((_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    return crc;
  });
  const tables = [bytewise];
  for (let slice = 1; slice < 8; slice++) {
    const previous = tables[slice - 1] ?? bytewise;
    tables.push(previous.map((crc) => (crc >>> 8) ^ (bytewise[crc & 0xff] as number)));
  }
  return tables;
}

/** Checksum of `data` from `start` to its end, unsigned. */
export function crc32c(data: Uint8Array, start = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  // The casts below say what the loop bounds guarantee; a check per byte would halve the speed.
  const byte = data as unknown as { readonly [index: number]: number; readonly length: number };
  const at = (table: Uint32Array, index: number): number => table[index] as number;
  let crc = -1;
  let i = start;
  for (; i + 8 <= byte.length; i += 8) {
    const low =
      crc ^
      ((byte[i] as number) |
        ((byte[i + 1] as number) << 8) |
        ((byte[i + 2] as number) << 16) |
        ((byte[i + 3] as number) << 24));
    crc =
      at(t7, low & 0xff) ^
      at(t6, (low >>> 8) & 0xff) ^
      at(t5, (low >>> 16) & 0xff) ^
      at(t4, low >>> 24) ^
      at(t3, byte[i + 4] as number) ^
      at(t2, byte[i + 5] as number) ^
      at(t1, byte[i + 6] as number) ^
      at(t0, byte[i + 7] as number);
  }
  for (; i < byte.length; i++) crc = at(t0, (crc ^ (byte[i] as number)) & 0xff) ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}
