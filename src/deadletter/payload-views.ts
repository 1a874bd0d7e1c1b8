/** Payloads of dead letters for people to look at: with or without personal data. */
import type { EventDecoder } from '../events/decoder.ts';
import { type SubjectNaming, subjectOf } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { parseExactJson } from '../kernel/exact-json.ts';
import { REDACTED, redact } from '../registry/redaction.ts';
import type { SchemaStore } from '../registry/schema-store.ts';
import type { SchemaNode } from '../registry/schema-tree.ts';
import { readPayload } from './payload.ts';

/** What is needed of a letter; `payload` is JSON text, null where it was not decoded when it was read. */
export interface PayloadSource {
  readonly payload: string | null;
  readonly schemaId: number | null;
  readonly value: Buffer | null;
  readonly type: string | null;
  readonly sourceTopic: string;
}

export interface PayloadViewsOptions {
  readonly store: SchemaStore;
  readonly decoder: EventDecoder;
  readonly naming: SubjectNaming;
}

export class PayloadViews {
  readonly #options: PayloadViewsOptions;

  constructor(options: PayloadViewsOptions) {
    this.#options = options;
  }

  /** Plain JSON, whole; undefined where the bytes cannot be read as such. */
  async whole(source: PayloadSource): Promise<unknown> {
    return (await this.#read(source))?.value;
  }

  /** As `whole`, without personal data: without anything at all while the schema cannot be had. */
  async redacted(source: PayloadSource): Promise<unknown> {
    const read = await this.#read(source);
    if (read === undefined) return undefined;
    const schema = await this.#schemaOf(source, read.schemaId);
    return schema === null ? REDACTED : redact(schema, read.value);
  }

  async #read({
    payload,
    schemaId,
    value,
  }: PayloadSource): Promise<{ value: unknown; schemaId: number | null } | undefined> {
    const read = payload === null ? await readPayload(value, this.#options.decoder) : { text: payload, schemaId };
    return read === null ? undefined : { value: parseExactJson(read.text), schemaId: read.schemaId };
  }

  async #schemaOf({ type, sourceTopic }: PayloadSource, schemaId: number | null): Promise<SchemaNode | null> {
    const { store, naming } = this.#options;
    try {
      if (schemaId !== null) {
        if (store.schemaOf(schemaId) === undefined) await store.refreshId(schemaId);
        return store.schemaOf(schemaId)?.tree ?? null;
      }
      if (type === null) return null;
      const subject = subjectOf(naming, sourceTopic, type);
      if (store.versionsOf(subject).length === 0) await store.refreshSubject(subject);
      return store.versionsOf(subject)[0]?.schema.tree ?? null;
    } catch (thrown) {
      if (thrown instanceof FerryError && thrown.code === 'REGISTRY_UNAVAILABLE') return null;
      throw thrown;
    }
  }
}
