/** Decodes Kafka values to plain JSON, the same form that was accepted when they were written. */
import type { DecodedValue, EventDecoder } from '../events/decoder.ts';
import { FerryError } from '../kernel/errors.ts';
import { EventSchema } from './event-schema.ts';
import { PayloadMismatch } from './payload-mismatch.ts';
import { personalTexts } from './redaction.ts';
import type { SchemaStore } from './schema-store.ts';
import { wireSchemaId } from './wire-format.ts';

/** The port, and reading with a schema of the reader's own. */
export interface ResolvingDecoder extends EventDecoder {
  /**
   * As the port says. `readerSchema` (the text of a schema) gives the value that schema's form, by Avro's rules of resolution: fields
   * that the writer did not know take their defaults. Rejects with SCHEMA_INCOMPATIBLE if it cannot read the writer's.
   */
  decode(value: Buffer, options?: { readerSchema?: string }): Promise<DecodedValue>;
}

/** A decoder that also knows what of a value is personal. */
export interface DiscreetDecoder extends ResolvingDecoder {
  /** The personal data of a value, by its writer's schema, as texts may quote it (redaction.ts). Rejects as `decode` does. */
  personalTexts(value: Buffer): Promise<readonly string[]>;
}

const MAX_READERS = 1_000;

export function createDecoder({ store }: { store: SchemaStore }): DiscreetDecoder {
  const readers = new Map<string, (value: Buffer) => unknown>();

  async function writerOf(value: Buffer): Promise<EventSchema> {
    const id = wireSchemaId(value);
    if (id === null) throw new FerryError('PAYLOAD_NOT_WIRE_FORMAT', 'the value is not in Confluent wire format');
    if (store.schemaOf(id) === undefined) await store.refreshId(id, () => store.schemaOf(id) !== undefined);
    const schema = store.schemaOf(id);
    if (schema !== undefined) return schema;
    throw new FerryError('SCHEMA_UNKNOWN', `the schema registry has no usable Avro record schema with id ${id}`);
  }

  function readerOf(writer: EventSchema, readerSchema: string): (value: Buffer) => unknown {
    const key = `${writer.id} ${readerSchema}`;
    let reader = readers.get(key);
    if (reader === undefined) {
      try {
        reader = new EventSchema(0, { text: readerSchema, references: [] }).readerOf(writer);
      } catch (cause) {
        throw new FerryError('SCHEMA_INCOMPATIBLE', `the reader schema cannot read schema id ${writer.id}`, { cause });
      }
      if (readers.size < MAX_READERS) readers.set(key, reader);
    }
    return reader;
  }

  return {
    async decode(value, options = {}) {
      const schema = await writerOf(value);
      const { readerSchema } = options;
      const read = readerSchema === undefined ? schema.decode.bind(schema) : readerOf(schema, readerSchema);
      try {
        return { schemaId: schema.id, type: schema.name, value: read(value) };
      } catch (thrown) {
        if (!(thrown instanceof PayloadMismatch)) throw thrown;
        const message = `${schema.name}, ${thrown.path === '' ? 'the value' : thrown.path}: ${thrown.expected}`;
        throw new FerryError('SCHEMA_MISMATCH', message, { details: { path: thrown.path, schemaId: schema.id } });
      }
    },
    async personalTexts(value) {
      const schema = await writerOf(value);
      return personalTexts(schema.tree, schema.decode(value));
    },
  };
}
