/**
 * Confluent's wire format: byte 0, the schema's id in four bytes, big-endian, then Avro binary.
 * Source: Confluent documentation, "Schema Registry Serdes: Wire Format".
 */
import type avsc from 'avsc';

export const WIRE_HEADER_BYTES = 5;
const MAGIC = 0;
const SCRATCH_BYTES = 65_536;

/** The schema id that a value names, or null if it is not in wire format. */
export function wireSchemaId(value: Buffer): number | null {
  return value.length > WIRE_HEADER_BYTES - 1 && value[0] === MAGIC ? value.readInt32BE(1) : null;
}

/** Writes values through one scratch buffer, since Avro's length is known only when it was written. Not to be shared by threads. */
export class WireWriter {
  readonly #scratch = Buffer.allocUnsafe(SCRATCH_BYTES);

  /** The value in wire format, in a buffer of its own. Throws what avsc throws for a value that does not fit. */
  write(schemaId: number, type: avsc.Type, value: unknown): Buffer {
    let buffer = this.#scratch;
    let end = type.encode(value, buffer, WIRE_HEADER_BYTES);
    if (end < 0) {
      // avsc answers with the bytes that were missing, as a negative number
      buffer = Buffer.allocUnsafe(buffer.length - end);
      end = type.encode(value, buffer, WIRE_HEADER_BYTES);
    }
    const written = Buffer.allocUnsafe(end);
    buffer.copy(written, 0, 0, end);
    written[0] = MAGIC;
    written.writeInt32BE(schemaId, 1);
    return written;
  }
}
