/**
 * The schema registry's REST API (Confluent's, which Apicurio and Karapace speak too). Reads go through fetch: the Confluent client
 * library reports a refused connection as HTTP 400, has no time-out, and no subject versions, levels or compatibility check. It
 * registers; its own change of the subject's level is switched off, and it gets fresh options each time, for it changes them.
 *
 * Errors: REGISTRY_UNAVAILABLE when there was no answer, or one that says nothing about what was asked (5xx, 401, 403, 429);
 * REGISTRY_READ_ONLY and SCHEMA_INCOMPATIBLE when it refused to register. What is unknown (404) is null, not an error.
 */
import type { COMPATIBILITY, SchemaRegistry } from '@kafkajs/confluent-schema-registry';
import { coerceError, FerryError } from '../kernel/errors.ts';

export interface SchemaReference {
  readonly name: string;
  readonly subject: string;
  readonly version: number;
}
export interface RegisteredSchema {
  readonly schemaType: string;
  readonly schema: string;
  readonly references: readonly SchemaReference[];
}
export interface SubjectVersion extends RegisteredSchema {
  readonly id: number;
  readonly version: number;
}
export type CompatibilityLevel = keyof typeof COMPATIBILITY;
export interface CompatibilityVerdict {
  readonly compatible: boolean;
  readonly messages: readonly string[];
}

/** What encoding and decoding need. */
export interface SchemaReader {
  /** Version numbers in ascending order; null: the subject is unknown. */
  versionsOf(subject: string): Promise<readonly number[] | null>;
  version(subject: string, version: number | 'latest'): Promise<SubjectVersion | null>;
  schemaById(id: number): Promise<RegisteredSchema | null>;
  subjectsOfId(id: number): Promise<readonly string[]>;
}

/** What `ferry schemas` needs besides. */
export interface RegistryClient extends SchemaReader {
  subjects(): Promise<readonly string[]>;
  /** The level set on the subject itself, or null. */
  compatibilityLevel(subject: string): Promise<string | null>;
  setCompatibilityLevel(subject: string, level: CompatibilityLevel): Promise<void>;
  /** Asks whether the schema could be the subject's next version under its level. */
  checkCompatibility(subject: string, schema: string): Promise<CompatibilityVerdict>;
  /** Registers a version and gives its id; `level` is the one that the subject already has. */
  register(subject: string, schema: string, level: CompatibilityLevel): Promise<number>;
  /** Resolves when the registry answers. */
  ping(): Promise<void>;
}

const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json';
/** Confluent error codes of a registry that takes no changes now: 42205 operation not permitted in this mode. */
const READ_ONLY_CODE = 42205;

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/**
 * `url` may hold credentials (`https://user:password@host/path`); they go into a header and into no message. TLS is verified by
 * Node's own rules (NODE_EXTRA_CA_CERTS adds an authority).
 */
export function createRegistryClient(options: { url: string; timeoutMs?: number }): RegistryClient {
  const timeoutMs = options.timeoutMs ?? 5_000;
  const { base, credentials } = splitCredentials(options.url);

  async function ask(method: string, path: string, body?: unknown): Promise<Answer> {
    const headers: Record<string, string> = { accept: `${CONTENT_TYPE}, application/json` };
    if (body !== undefined) headers['content-type'] = CONTENT_TYPE;
    if (credentials !== null) {
      headers.authorization = `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
    }
    let answer: Answer;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const response = await fetch(base + path, {
        method,
        headers,
        signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      answer = { status: response.status, body: parseBody(await response.text()) };
    } catch (cause) {
      throw unavailable(base, `${method} ${path} had no answer`, cause);
    }
    if (saysNothing(answer.status)) {
      throw unavailable(base, `${method} ${path} answered ${answer.status}`);
    }
    return answer;
  }

  async function read(path: string): Promise<unknown> {
    const { status, body } = await ask('GET', path);
    if (status === 404) return null;
    if (status !== 200) throw unavailable(base, `GET ${path} answered ${status}`);
    return body;
  }

  return {
    async ping() {
      await read('/subjects');
    },
    async subjects() {
      return stringsOf(await read('/subjects'));
    },
    async versionsOf(subject) {
      const body = await read(`/subjects/${encodeURIComponent(subject)}/versions`);
      const versions = Array.isArray(body) ? body.map(Number).sort((a, b) => a - b) : [];
      return versions.length === 0 ? null : versions;
    },
    async version(subject, version) {
      return subjectVersionOf(await read(`/subjects/${encodeURIComponent(subject)}/versions/${version}`));
    },
    async schemaById(id) {
      const body = await read(`/schemas/ids/${id}`);
      return body === null ? null : registeredSchemaOf(body);
    },
    async subjectsOfId(id) {
      const body = await read(`/schemas/ids/${id}/versions`);
      return Array.isArray(body) ? body.map((item) => String(fieldOf(item, 'subject'))) : [];
    },
    async compatibilityLevel(subject) {
      const body = await read(`/config/${encodeURIComponent(subject)}`);
      const level = fieldOf(body, 'compatibilityLevel') ?? fieldOf(body, 'compatibility');
      return typeof level === 'string' ? level : null;
    },
    async setCompatibilityLevel(subject, level) {
      const answer = await ask('PUT', `/config/${encodeURIComponent(subject)}`, { compatibility: level });
      if (answer.status !== 200) throw refusal(`setting ${subject} to ${level}`, answer);
    },
    async checkCompatibility(subject, schema) {
      const path = `/compatibility/subjects/${encodeURIComponent(subject)}/versions?verbose=true`;
      const answer = await ask('POST', path, { schema });
      if (answer.status !== 200) throw refusal(`checking a schema for ${subject}`, answer);
      return {
        compatible: fieldOf(answer.body, 'is_compatible') === true,
        messages: stringsOf(fieldOf(answer.body, 'messages')),
      };
    },
    async register(subject, schema, level) {
      const client: LibraryOptions = { host: base, retry: { retries: 0 }, middlewares: [timeoutMiddleware(timeoutMs)] };
      if (credentials !== null) client.auth = { ...credentials };
      // Loaded only by who pushes schemas: a tenth of a second that a starting relay does not have.
      const confluent = await import('@kafkajs/confluent-schema-registry');
      const library = new confluent.SchemaRegistry(client, {});
      try {
        const avro = { type: confluent.SchemaType.AVRO, schema } as const;
        const options = { subject, compatibility: confluent.COMPATIBILITY[level], updateConfig: false };
        return (await library.register(avro, options)).id;
      } catch (thrown) {
        throw await registrationError(base, subject, coerceError(thrown), () => read('/subjects'));
      }
    },
  };
}

type LibraryOptions = ConstructorParameters<typeof SchemaRegistry>[0];
type LibraryMiddleware = NonNullable<LibraryOptions['middlewares']>[number];

/** mappersmith, under the library, waits for ever unless a request says otherwise. */
function timeoutMiddleware(timeoutMs: number): LibraryMiddleware {
  return () => ({ prepareRequest: async (next) => (await next()).enhance({ timeout: timeoutMs }) });
}

async function registrationError(
  base: string,
  subject: string,
  cause: Error,
  probe: () => Promise<unknown>,
): Promise<FerryError> {
  const status = 'status' in cause ? Number(cause.status) : 0;
  if (saysNothing(status)) return unavailable(base, `registering a schema for ${subject} answered ${status}`, cause);
  // The library says 400 for a connection that was refused or too slow: a probe, which then fails, tells the two apart.
  if (status === 400) await probe();
  return refusal(`registering a schema for ${subject}`, { status, body: { message: cause.message } }, cause);
}

/** Statuses that are no answer to what was asked: the registry, or something before it, is not in order. */
function saysNothing(status: number): boolean {
  return status >= 500 || [401, 403, 408, 429].includes(status);
}

function refusal(what: string, answer: Answer, cause?: Error): FerryError {
  const said = String(fieldOf(answer.body, 'message') ?? 'no reason given').slice(0, 1000);
  const readOnly =
    Number(fieldOf(answer.body, 'error_code')) === READ_ONLY_CODE || /read-?only|not permitted/i.test(said);
  const code = readOnly ? 'REGISTRY_READ_ONLY' : answer.status === 409 ? 'SCHEMA_INCOMPATIBLE' : 'SCHEMA_INVALID';
  return new FerryError(code, `the schema registry refused ${what} (${answer.status}): ${said}`, { cause });
}

function unavailable(base: string, what: string, cause?: unknown): FerryError {
  const why = cause === undefined ? '' : `: ${rootMessage(cause)}`;
  return new FerryError('REGISTRY_UNAVAILABLE', `the schema registry at ${base} is not available: ${what}${why}`, {
    cause,
  });
}

function rootMessage(thrown: unknown): string {
  const error = coerceError(thrown);
  if (error.cause === undefined) return error instanceof AggregateError ? rootMessage(error.errors[0]) : error.message;
  return rootMessage(error.cause);
}

function splitCredentials(address: string): { base: string; credentials: Credentials | null } {
  const url = new URL(address);
  const [username, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  url.username = '';
  url.password = '';
  return { base: url.toString().replace(/\/+$/, ''), credentials: username === '' ? null : { username, password } };
}

interface Credentials {
  readonly username: string;
  readonly password: string;
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { message: text.slice(0, 200) };
  }
}

function subjectVersionOf(body: unknown): SubjectVersion | null {
  if (body === null) return null;
  return { ...registeredSchemaOf(body), id: Number(fieldOf(body, 'id')), version: Number(fieldOf(body, 'version')) };
}

function registeredSchemaOf(body: unknown): RegisteredSchema {
  const references = fieldOf(body, 'references');
  return {
    schemaType: String(fieldOf(body, 'schemaType') ?? 'AVRO'),
    schema: String(fieldOf(body, 'schema')),
    references: Array.isArray(references) ? (references as SchemaReference[]) : [],
  };
}

function fieldOf(body: unknown, name: string): unknown {
  return typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[name] : undefined;
}

function stringsOf(body: unknown): string[] {
  return Array.isArray(body) ? body.map(String) : [];
}
