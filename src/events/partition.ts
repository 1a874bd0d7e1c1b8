/**
 * The partition of a key, as the Java client's default partitioner finds it: murmur2 with its seed, made positive, modulo the
 * partition count. Computed by Ferry, so that it never depends on a client library's version.
 * Source: org.apache.kafka.common.utils.Utils#murmur2 and BuiltInPartitioner#partitionForKey.
 */
const SEED = 0x9747b28c;
const M = 0x5bd1e995;

/** 32-bit murmur2 of the first `length` bytes of `data`, as a signed integer. */
export function murmur2(data: Uint8Array, length = data.length): number {
  let h = SEED ^ length;
  const whole = length >> 2;
  for (let i = 0; i < whole; i++) {
    const at = i << 2;
    let k =
      (data[at] ?? 0) | ((data[at + 1] ?? 0) << 8) | ((data[at + 2] ?? 0) << 16) | ((data[at + 3] ?? 0) << 24) | 0;
    k = Math.imul(k, M);
    k ^= k >>> 24;
    k = Math.imul(k, M);
    h = Math.imul(h, M) ^ k;
  }
  const tail = whole << 2;
  const left = length & 3;
  if (left === 3) h ^= (data[tail + 2] ?? 0) << 16;
  if (left >= 2) h ^= (data[tail + 1] ?? 0) << 8;
  if (left >= 1) {
    h ^= data[tail] ?? 0;
    h = Math.imul(h, M);
  }
  h ^= h >>> 13;
  h = Math.imul(h, M);
  h ^= h >>> 15;
  return h | 0;
}

const scratch = new Uint8Array(256);

/** The partition of a key of any length, by its UTF-8 bytes. */
export function partitionOf(key: string, partitionCount: number): number {
  const hash = isShortAscii(key) ? murmur2(scratch, key.length) : murmur2(Buffer.from(key));
  return (hash & 0x7fffffff) % partitionCount;
}

/** Copies the key into `scratch`, if it fits; most keys do, and a Buffer for each would cost more than the hash. */
function isShortAscii(key: string): boolean {
  if (key.length > scratch.length) return false;
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i);
    if (code > 0x7f) return false;
    scratch[i] = code;
  }
  return true;
}
