/** The payload of a dead letter as plain JSON, where it can be had: Avro by its schema, or the JSON of an outbox row that no schema took. */
import { isUtf8 } from 'node:buffer';
import type { EventDecoder } from '../events/decoder.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';
import { parseExactJson, stringifyExactJson } from '../kernel/exact-json.ts';

export interface ReadPayload {
  /** JSON text, with every digit. */
  readonly text: string;
  /** Null for JSON that was not encoded. */
  readonly schemaId: number | null;
}

const MAGIC_BYTE = 0;

/** Null if the bytes are neither, or the registry is away: then it can be tried again when somebody wants to see it. */
export async function readPayload(value: Buffer | null, decoder: EventDecoder): Promise<ReadPayload | null> {
  if (value === null) return null;
  if (value[0] !== MAGIC_BYTE) return readJson(value);
  try {
    const { value: decoded, schemaId } = await decoder.decode(value);
    return { text: stringifyExactJson(decoded), schemaId };
  } catch (thrown) {
    if (thrown instanceof FerryError) return null;
    throw coerceError(thrown);
  }
}

function readJson(value: Buffer): ReadPayload | null {
  if (!isUtf8(value)) return null;
  try {
    const text = value.toString();
    parseExactJson(text);
    return { text, schemaId: null };
  } catch {
    return null;
  }
}
