/**
 * The EventEncoder over the schema registry: plain JSON is encoded with its subject's newest version that takes it, bytes that are
 * already Avro are checked to the last one. Everything is decided from memory; only `refresh` asks the registry.
 */
import type { EncodableEvent, EncodeRefusal, EncodeResult, EventEncoder, RefreshOptions } from '../events/encoder.ts';
import { type SubjectNaming, subjectOf } from '../events/routes.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import type { EventSchema } from './event-schema.ts';
import { PayloadMismatch } from './payload-mismatch.ts';
import type { SchemaStore } from './schema-store.ts';
import { WireWriter, wireSchemaId } from './wire-format.ts';

export interface EncoderOptions {
  readonly store: SchemaStore;
  readonly naming: SubjectNaming;
  /** Largest encoded value, in bytes. */
  readonly maxEventBytes: number;
}

/** Topics, and types of each, whose subject is remembered. */
const MAX_REMEMBERED = 1_000;

/** avsc's own message is not shown: it quotes the value. */
const UNEXPLAINED = { path: '', expected: 'refused by avsc' };

type Refused = Extract<EncodeResult, { ok: false }>;

export function createEncoder({ store, naming, maxEventBytes }: EncoderOptions): EventEncoder {
  const writer = new WireWriter();
  const subjects = new Map<string, Map<string, string>>();

  /** The same string each time: looking a fresh one up means hashing it anew for every event. Bounded, because writers choose types. */
  function subjectFor(topic: string, type: string): string {
    let byType = subjects.get(topic);
    if (byType === undefined) {
      byType = new Map();
      if (subjects.size < MAX_REMEMBERED) subjects.set(topic, byType);
    }
    const known = byType.get(type);
    if (known !== undefined) return known;
    const subject = subjectOf(naming, topic, type);
    if (byType.size < MAX_REMEMBERED) byType.set(type, subject);
    return subject;
  }

  function encode(event: EncodableEvent, topic: string): EncodeResult {
    const { payload } = event;
    if (payload.kind === 'tombstone') return { ok: true, value: null, schemaId: null, subject: null };
    const subject = subjectFor(topic, event.type);
    if (payload.kind === 'avro') return checkAvro(event, payload.bytes, subject);
    return event.schemaId === null
      ? encodeWithVersions(event, payload.text, subject)
      : encodePinned(event, payload.text, subject, event.schemaId);
  }

  /**
   * Writers of the version before are still live when a version is pushed. One that left a field out fits the newest by its default;
   * one that sends a field that the newest has no longer does not, so the versions before it are tried, newest first.
   */
  function encodeWithVersions(event: EncodableEvent, text: string, subject: string): EncodeResult {
    let first: Refused | null = null;
    for (const { schema } of store.versionsOf(subject)) {
      if (schema.name !== event.type) {
        first ??= refuse('SCHEMA_SUBJECT_MISMATCH', `subject ${subject} holds ${schema.name}, not ${event.type}`);
        continue;
      }
      const result = encodeJson(schema, text, subject);
      if (result.ok || result.refusal.code !== 'SCHEMA_MISMATCH') return result;
      first ??= result;
    }
    return first ?? refuse('SCHEMA_UNKNOWN', `the schema registry has no schema of ${event.type} (subject ${subject})`);
  }

  function encodePinned(event: EncodableEvent, text: string, subject: string, id: number): EncodeResult {
    const schema = store.schemaOf(id);
    return schema === undefined
      ? refuse('SCHEMA_UNKNOWN', `the schema registry has no usable Avro record schema with id ${id}`)
      : (wrongSubject(event, schema, subject) ?? encodeJson(schema, text, subject));
  }

  function checkAvro(event: EncodableEvent, bytes: Buffer, subject: string): EncodeResult {
    const id = wireSchemaId(bytes);
    if (id === null) {
      return refuse('PAYLOAD_NOT_WIRE_FORMAT', `the binary payload of ${event.type} is not in Confluent wire format`);
    }
    if (event.schemaId !== null && event.schemaId !== id) {
      const message = `the binary payload of ${event.type} names schema id ${id}, its row ${event.schemaId}`;
      return refuse('SCHEMA_SUBJECT_MISMATCH', message);
    }
    const schema = store.schemaOf(id);
    if (schema === undefined) {
      return refuse('SCHEMA_UNKNOWN', `the schema registry has no usable Avro record schema with id ${id}`);
    }
    const wrong = wrongSubject(event, schema, subject);
    if (wrong !== null) return wrong;
    if (bytes.length > maxEventBytes) return tooLarge(event.type, bytes.length);
    return attempt(schema, subject, () => {
      schema.check(bytes);
      return bytes;
    });
  }

  function wrongSubject(event: EncodableEvent, schema: EventSchema, subject: string): Refused | null {
    if (schema.name !== event.type) {
      return refuse('SCHEMA_SUBJECT_MISMATCH', `schema id ${schema.id} is ${schema.name}, the event ${event.type}`);
    }
    return store.belongs(schema.id, subject)
      ? null
      : refuse('SCHEMA_SUBJECT_MISMATCH', `schema id ${schema.id} is not a version of subject ${subject}`);
  }

  function encodeJson(schema: EventSchema, text: string, subject: string): EncodeResult {
    return attempt(schema, subject, () => schema.encode(text, writer));
  }

  function attempt(schema: EventSchema, subject: string, work: () => Buffer): EncodeResult {
    try {
      const value = work();
      return value.length > maxEventBytes
        ? tooLarge(schema.name, value.length)
        : { ok: true, value, schemaId: schema.id, subject };
    } catch (thrown) {
      // Whatever avsc may still refuse is this event's fault alone: thrown on, it would stop all that come after it.
      const { path, expected } = thrown instanceof PayloadMismatch ? thrown : UNEXPLAINED;
      return refuse('SCHEMA_MISMATCH', `${path === '' ? 'the payload' : path}: ${expected}`, path);
    }
  }

  function tooLarge(type: string, bytes: number): Refused {
    return refuse(
      'EVENT_TOO_LARGE',
      `an event of ${type} has ${bytes} bytes encoded; MAX_EVENT_BYTES is ${maxEventBytes}`,
    );
  }

  async function refresh(
    event: EncodableEvent,
    topic: string,
    { freshSinceMs }: RefreshOptions = {},
  ): Promise<boolean> {
    const id = event.payload.kind === 'avro' ? wireSchemaId(event.payload.bytes) : event.schemaId;
    if (event.payload.kind === 'tombstone' || (event.payload.kind === 'avro' && id === null)) return false;
    const fits = (): boolean => encode(event, topic).ok;
    const learnt = await (id === null
      ? store.refreshSubject(subjectFor(topic, event.type), fits, freshSinceMs)
      : store.refreshId(id, fits, freshSinceMs));
    return learnt || fits(); // another event's refresh may have taught it
  }

  return { encode, refresh };
}

function refuse(code: ErrorCode, message: string, path: string | null = null): Refused {
  const refusal: EncodeRefusal = { code, message, path };
  return { ok: false, refusal };
}
