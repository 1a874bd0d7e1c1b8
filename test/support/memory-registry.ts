/** A schema registry in memory: the fake of the SchemaReader port, held to the real one by test/contract/encoder.test.ts. */
import { FerryError } from '../../src/kernel/errors.ts';
import type { RegisteredSchema, SchemaReader, SubjectVersion } from '../../src/registry/registry-client.ts';

export class MemoryRegistry implements SchemaReader {
  /** Schema texts; the id is the index plus one, shared by subjects, as in Confluent's. */
  readonly #texts: string[] = [];
  readonly #subjects = new Map<string, string[]>();
  /** Requests answered or refused so far. */
  requests = 0;
  down = false;

  /** Registers a version and gives its id. */
  push(subject: string, text: string): number {
    if (!this.#texts.includes(text)) this.#texts.push(text);
    this.#subjects.set(subject, [...(this.#subjects.get(subject) ?? []), text]);
    return this.#texts.indexOf(text) + 1;
  }

  async versionsOf(subject: string): Promise<readonly number[] | null> {
    await this.#answer();
    return this.#subjects.get(subject)?.map((_, i) => i + 1) ?? null;
  }

  async version(subject: string, wanted: number | 'latest'): Promise<SubjectVersion | null> {
    await this.#answer();
    const texts = this.#subjects.get(subject) ?? [];
    const version = wanted === 'latest' ? texts.length : wanted;
    const text = texts[version - 1];
    return text === undefined ? null : { ...registered(text), id: this.#texts.indexOf(text) + 1, version };
  }

  async schemaById(id: number): Promise<RegisteredSchema | null> {
    await this.#answer();
    const text = this.#texts[id - 1];
    return text === undefined ? null : registered(text);
  }

  async subjectsOfId(id: number): Promise<readonly string[]> {
    await this.#answer();
    const text = this.#texts[id - 1] ?? '';
    return [...this.#subjects].filter(([, texts]) => texts.includes(text)).map(([subject]) => subject);
  }

  async #answer(): Promise<void> {
    this.requests += 1;
    await Promise.resolve();
    if (this.down) throw new FerryError('REGISTRY_UNAVAILABLE', 'the schema registry in memory is down');
  }
}

function registered(schema: string): RegisteredSchema {
  return { schemaType: 'AVRO', schema, references: [] };
}
