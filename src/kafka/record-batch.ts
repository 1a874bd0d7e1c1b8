/**
 * Encodes records as one Kafka record batch (message format v2, magic 2), uncompressed, transactional.
 * Source: org.apache.kafka.common.record.DefaultRecordBatch and DefaultRecord. Written by hand because it is the relay's hot path:
 * kafkajs builds an encoder object per record and header.
 */
import { crc32c } from './crc32c.ts';

export interface BatchRecord {
  readonly key: string | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

export interface BatchProducer {
  readonly producerId: bigint;
  readonly producerEpoch: number;
  /** Sequence number of the batch's first record in its partition. */
  readonly firstSequence: number;
}

const BATCH_HEADER_BYTES = 61;
const CRC_OFFSET = 17;
const ATTRIBUTES_OFFSET = 21;
const TRANSACTIONAL = 0x10;
const MAGIC = 2;

/** Upper bound of a record's encoded size: varints are counted at their longest. */
export function maxRecordBytes(record: BatchRecord): number {
  let bytes = 5 + 1 + 1 + 5 + 5 + 5 + 5;
  if (record.key !== null) bytes += record.key.length * 3;
  if (record.value !== null) bytes += record.value.length;
  for (const name in record.headers) bytes += 10 + name.length * 3 + (record.headers[name] ?? '').length * 3;
  return bytes;
}

/** `timestampMs` is that of every record: the time of publishing. */
export function encodeRecordBatch(
  records: readonly BatchRecord[],
  producer: BatchProducer,
  timestampMs: number,
): Buffer {
  if (records.length === 0) throw new RangeError('a record batch cannot be empty');
  let bound = BATCH_HEADER_BYTES;
  for (const record of records) bound += maxRecordBytes(record);
  const buffer = Buffer.allocUnsafe(bound);
  let at = BATCH_HEADER_BYTES;
  for (let i = 0; i < records.length; i++) {
    const record = records[i];
    if (record !== undefined) at = writeRecord(buffer, at, record, i);
  }
  const batch = buffer.subarray(0, at);
  batch.writeBigInt64BE(0n, 0); // base offset: the broker's to set
  batch.writeInt32BE(at - 12, 8);
  batch.writeInt32BE(-1, 12); // partition leader epoch: the broker's to set
  batch.writeInt8(MAGIC, 16);
  batch.writeInt16BE(TRANSACTIONAL, ATTRIBUTES_OFFSET);
  batch.writeInt32BE(records.length - 1, 23);
  batch.writeBigInt64BE(BigInt(timestampMs), 27);
  batch.writeBigInt64BE(BigInt(timestampMs), 35);
  batch.writeBigInt64BE(producer.producerId, 43);
  batch.writeInt16BE(producer.producerEpoch, 51);
  batch.writeInt32BE(producer.firstSequence, 53);
  batch.writeInt32BE(records.length, 57);
  batch.writeUInt32BE(crc32c(batch, ATTRIBUTES_OFFSET), CRC_OFFSET);
  return batch;
}

function writeRecord(buffer: Buffer, start: number, record: BatchRecord, offsetDelta: number): number {
  // The length comes first but is known last: the body is written after room for the longest length, then moved down.
  const body = start + 5;
  let at = body;
  buffer[at++] = 0; // attributes
  buffer[at++] = 0; // timestamp delta
  at = writeVarint(buffer, at, offsetDelta);
  at = record.key === null ? writeVarint(buffer, at, -1) : writeText(buffer, at, record.key);
  if (record.value === null) at = writeVarint(buffer, at, -1);
  else {
    at = writeVarint(buffer, at, record.value.length);
    at += record.value.copy(buffer, at);
  }
  let count = 0;
  for (const _ in record.headers) count++;
  at = writeVarint(buffer, at, count);
  for (const name in record.headers) {
    at = writeText(buffer, at, name);
    at = writeText(buffer, at, record.headers[name] ?? '');
  }
  const length = at - body;
  const lengthEnd = writeVarint(buffer, start, length);
  buffer.copyWithin(lengthEnd, body, at);
  return lengthEnd + length;
}

function writeText(buffer: Buffer, start: number, text: string): number {
  // Short ASCII, which headers and keys mostly are, is faster byte by byte than through the encoder.
  if (text.length < 48) {
    const end = writeVarint(buffer, start, text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return writeLongText(buffer, start, text);
      buffer[end + i] = code;
    }
    return end + text.length;
  }
  return writeLongText(buffer, start, text);
}

function writeLongText(buffer: Buffer, start: number, text: string): number {
  const end = writeVarint(buffer, start, Buffer.byteLength(text));
  return end + buffer.write(text, end);
}

/** Zig-zag varint, 32 bits. */
function writeVarint(buffer: Buffer, start: number, value: number): number {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0;
  let at = start;
  while (rest > 0x7f) {
    buffer[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}
