/**
 * What is known of the registry: schemas by id, and the versions of subjects. Only grows: ids and versions never change their schema,
 * and what is known must outlive the registry's absence, even its loss of data.
 */
import { coerceError, FerryError } from '../kernel/errors.ts';
import { EventSchema } from './event-schema.ts';
import { type Clock, RefreshGate, systemClock } from './refresh-gate.ts';
import type { RegisteredSchema, SchemaReader, SubjectVersion } from './registry-client.ts';

/** Outcome of one question to the registry, for metrics. */
export type RefreshOutcome = 'learnt' | 'unchanged' | 'unavailable';

export interface StoreMetrics {
  refreshed(outcome: RefreshOutcome): void;
}

/** A payload is tried against at most this many of its subject's versions, newest first. */
const MAX_VERSIONS = 16;
/** Events choose ids: beyond this many known ones, something is wrong, and no more are kept. */
const MAX_SCHEMAS = 10_000;
const MAX_REFERENCES = 100;

interface KnownSchema {
  readonly schema: EventSchema;
  readonly subjects: Set<string>;
}

interface KnownVersion {
  readonly version: number;
  readonly schema: EventSchema;
}

export class SchemaStore {
  readonly #reader: SchemaReader;
  readonly #gate: RefreshGate;
  readonly #metrics: StoreMetrics | undefined;
  readonly #byId = new Map<number, KnownSchema>();
  /** Newest first. */
  readonly #bySubject = new Map<string, readonly KnownVersion[]>();

  constructor(reader: SchemaReader, options: { clock?: Clock; metrics?: StoreMetrics } = {}) {
    this.#reader = reader;
    this.#gate = new RefreshGate(options.clock ?? systemClock);
    this.#metrics = options.metrics;
  }

  /** The subject's known versions, newest first; empty when it is unknown. */
  versionsOf(subject: string): readonly KnownVersion[] {
    return this.#bySubject.get(subject) ?? [];
  }

  schemaOf(id: number): EventSchema | undefined {
    return this.#byId.get(id)?.schema;
  }

  belongs(id: number, subject: string): boolean {
    return this.#byId.get(id)?.subjects.has(subject) === true;
  }

  /**
   * Asks for the subject's versions. Resolves true when something new was learnt, or `satisfied` came true meanwhile. Rejects with
   * REGISTRY_UNAVAILABLE. See RefreshGate for how often.
   */
  refreshSubject(subject: string, satisfied: () => boolean = () => false, freshSinceMs?: number): Promise<boolean> {
    const ask = () => this.#measured(() => this.#askSubject(subject));
    return this.#gate.run(`subject ${subject}`, ask, satisfied, freshSinceMs);
  }

  /** Asks for the schema of an id and the subjects that have it. As `refreshSubject`. */
  refreshId(id: number, satisfied: () => boolean = () => false, freshSinceMs?: number): Promise<boolean> {
    return this.#gate.run(`id ${id}`, () => this.#measured(() => this.#askId(id)), satisfied, freshSinceMs);
  }

  /** Learns subjects ahead of the first event, so that they survive an outage that comes before it. */
  async preload(subjects: Iterable<string>): Promise<void> {
    for (const subject of subjects) await this.refreshSubject(subject, () => this.#bySubject.has(subject));
  }

  async #measured(ask: () => Promise<boolean>): Promise<boolean> {
    try {
      const learnt = await ask();
      this.#metrics?.refreshed(learnt ? 'learnt' : 'unchanged');
      return learnt;
    } catch (thrown) {
      this.#metrics?.refreshed('unavailable');
      if (thrown instanceof FerryError) throw thrown;
      const cause = coerceError(thrown);
      throw new FerryError('REGISTRY_UNAVAILABLE', 'the schema registry gave an answer that Ferry cannot read', {
        cause,
      });
    }
  }

  async #askSubject(subject: string): Promise<boolean> {
    const known = this.versionsOf(subject);
    // Most subjects have one version, so the newest is asked for first: a process that starts asks for each of its subjects.
    const newest = known.length === 0 ? await this.#reader.version(subject, 'latest') : undefined;
    if (newest === null) return false; // unknown
    const listed = newest?.version === 1 ? [1] : await this.#reader.versionsOf(subject);
    if (listed === null) return false; // a registry that lost its data: what is known stays
    const wanted = listed.slice(-MAX_VERSIONS);
    const missing = wanted.filter((version) => !known.some((item) => item.version === version));
    const learnt: KnownVersion[] = [];
    for (const version of missing) {
      const found = version === newest?.version ? newest : await this.#reader.version(subject, version);
      const schema = found === null ? undefined : await this.#learnVersion(subject, found);
      if (schema !== undefined) learnt.push({ version, schema });
    }
    // A version that is no longer listed was deleted on purpose: its id stays readable, but nothing new is written with it.
    const versions = [...known, ...learnt].filter((item) => wanted.includes(item.version));
    if (versions.length === 0) return false;
    this.#bySubject.set(
      subject,
      versions.sort((a, b) => b.version - a.version),
    );
    return learnt.length > 0 || versions.length !== known.length;
  }

  async #learnVersion(subject: string, found: SubjectVersion): Promise<EventSchema | undefined> {
    const schema = this.schemaOf(found.id) ?? (await this.#compile(found.id, found));
    if (schema !== undefined) this.#remember(schema, subject);
    return schema;
  }

  async #askId(id: number): Promise<boolean> {
    let schema = this.schemaOf(id);
    if (schema === undefined) {
      const found = await this.#reader.schemaById(id);
      schema = found === null ? undefined : await this.#compile(id, found);
    }
    if (schema === undefined) return false;
    let learnt = !this.#byId.has(id);
    this.#remember(schema);
    for (const subject of await this.#reader.subjectsOfId(id)) learnt = this.#remember(schema, subject) || learnt;
    return learnt;
  }

  /** Returns whether it is new that the subject has the schema. */
  #remember(schema: EventSchema, subject?: string): boolean {
    let known = this.#byId.get(schema.id);
    if (known === undefined) {
      if (this.#byId.size >= MAX_SCHEMAS) return false;
      known = { schema, subjects: new Set() };
      this.#byId.set(schema.id, known);
    }
    if (subject === undefined || known.subjects.has(subject)) return false;
    known.subjects.add(subject);
    return true;
  }

  /** Undefined for a schema that is no Avro record or breaks Avro's rules: for events it counts as unknown. */
  async #compile(id: number, found: RegisteredSchema): Promise<EventSchema | undefined> {
    if (found.schemaType !== 'AVRO') return undefined;
    const references = await this.#texts(found, new Set());
    try {
      return new EventSchema(id, { text: found.schema, references });
    } catch {
      return undefined;
    }
  }

  /** Texts of the references, each after those that it refers to itself. */
  async #texts(found: RegisteredSchema, seen: Set<string>): Promise<string[]> {
    const texts: string[] = [];
    for (const { subject, version } of found.references) {
      const key = `${subject} ${version}`;
      if (seen.has(key) || seen.size >= MAX_REFERENCES) continue;
      seen.add(key);
      const referred = await this.#reader.version(subject, version);
      if (referred !== null) texts.push(...(await this.#texts(referred, seen)), referred.schema);
    }
    return texts;
  }
}
