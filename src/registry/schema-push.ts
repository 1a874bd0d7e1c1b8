/**
 * `ferry schemas check | push | list`: the only place that registers a schema or sets a subject's compatibility level. Checking
 * changes nothing; pushing checks all files first, and changes nothing if one of them breaks.
 */
import { Readable } from 'node:stream';
import { type SubjectNaming, subjectOf, type TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { canonicalJson } from '../kernel/exact-json.ts';
import type { RegistryClient, SubjectVersion } from './registry-client.ts';
import { type Break, findBreaks, type SchemaVersion } from './schema-compatibility.ts';
import type { SchemaFile } from './schema-files.ts';
import { parseSchema, SchemaSyntaxError } from './schema-tree.ts';

/** Each file takes a few; a registry answers some side by side. */
const FILES_AT_ONCE = 4;

export interface SchemaContext {
  readonly client: RegistryClient;
  readonly files: readonly SchemaFile[];
  readonly routes: TopicRoutes;
  readonly naming: SubjectNaming;
}

/** What stands between a file and the registry. `registered`: the registry has it; nothing is to be done but perhaps its level. */
export type SchemaState = 'new' | 'changed' | 'registered' | 'incompatible';

export interface SchemaReport {
  readonly file: string;
  readonly type: string;
  readonly topic: string;
  readonly subject: string;
  readonly state: SchemaState;
  /** The level that the file asks for, and the one that the subject has (null: none of its own). */
  readonly level: string;
  readonly registeredLevel: string | null;
  /** The version and id of this schema, when the registry has it, and the newest version of the subject. */
  readonly version: number | null;
  readonly id: number | null;
  readonly newestVersion: number | null;
  /** What breaks and how to mend it; filled when the state is `incompatible`. */
  readonly breaks: readonly Break[];
}

export interface PushReport {
  /** False: something is incompatible, and nothing was changed. */
  readonly ok: boolean;
  readonly schemas: readonly SchemaReport[];
  /** What was done, one line each; empty when there was nothing to do. */
  readonly changes: readonly string[];
}

export interface SubjectListing {
  readonly subject: string;
  readonly level: string | null;
  readonly versions: ReadonlyArray<{ readonly version: number; readonly id: number }>;
  /** The file that the subject belongs to, if it is one of ours. */
  readonly file: string | null;
}

/** Compares every file with the registry. Rejects with REGISTRY_UNAVAILABLE, TOPIC_INVALID or CONFIG_INVALID. */
export async function checkSchemas(context: SchemaContext): Promise<SchemaReport[]> {
  return (await checkEach(context)).map(({ report }) => report);
}

/**
 * Registers what is new or changed, each subject's level first: a registry whose global level is NONE would take anything as the
 * second version. Safe to run again at any point. Rejects with REGISTRY_UNAVAILABLE, REGISTRY_READ_ONLY, SCHEMA_INCOMPATIBLE (the
 * registry refused what Ferry found compatible).
 */
export async function pushSchemas(context: SchemaContext): Promise<PushReport> {
  const checked = await checkEach(context);
  if (checked.some(({ report }) => report.state === 'incompatible')) {
    return { ok: false, schemas: checked.map(({ report }) => report), changes: [] };
  }
  const pushed = await ofEach(checked, ({ file, report }) => pushFile(context.client, file, report));
  return { ok: true, schemas: pushed.map(({ report }) => report), changes: pushed.flatMap(({ changes }) => changes) };
}

/** Several at a time; the results in the order of the items. */
function ofEach<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  return Readable.from(items).map(work, { concurrency: FILES_AT_ONCE }).toArray();
}

/** The registry's subjects with their versions. Rejects with REGISTRY_UNAVAILABLE. */
export async function listSchemas(context: SchemaContext): Promise<SubjectListing[]> {
  const { client, files } = context;
  const fileOf = new Map(files.map((file) => [addressOf(context, file).subject, file.file]));
  const listings: SubjectListing[] = [];
  for (const subject of [...(await client.subjects())].sort()) {
    const versions = (await versionsOf(client, subject)).map(({ version, id }) => ({ version, id }));
    const level = await client.compatibilityLevel(subject);
    listings.push({ subject, level, versions, file: fileOf.get(subject) ?? null });
  }
  return listings;
}

/** One line for a terminal, and one more for each break. */
export function describeSchemaReport(report: SchemaReport): string[] {
  const { type, subject, state, version, newestVersion, level, registeredLevel } = report;
  const of =
    version === null ? '' : ` (version ${version}${version === newestVersion ? '' : `, newest ${newestVersion}`})`;
  const levels = registeredLevel === level ? '' : `; level ${registeredLevel ?? 'not set'}, to be ${level}`;
  const breaks = report.breaks.map(
    ({ path, problem, mend }) => `  ${path === '' ? '/' : path}: ${problem}. Mend: ${mend}.`,
  );
  return [`${type}: ${state}${of} in ${subject}${levels}`, ...breaks];
}

/** With SUBJECT_NAMING=topic a topic holds one type only: the versions of a subject are versions of one record. */
function refuseSharedSubjects(context: SchemaContext): void {
  const owners = new Map<string, string>();
  for (const file of context.files) {
    const { subject } = addressOf(context, file);
    const owner = owners.get(subject);
    if (owner !== undefined) {
      const message = `SUBJECT_NAMING is ${context.naming}, which gives ${owner} and ${file.file} one subject, ${subject}; it takes topic-record`;
      throw new FerryError('CONFIG_INVALID', message, { details: { variable: 'SUBJECT_NAMING' } });
    }
    owners.set(subject, file.file);
  }
}

function addressOf({ routes, naming }: SchemaContext, file: SchemaFile): { topic: string; subject: string } {
  const topic = routes.topicOf(file.aggregateType);
  return { topic, subject: subjectOf(naming, topic, file.tree.name) };
}

interface Checked {
  readonly file: SchemaFile;
  readonly report: SchemaReport;
}

async function checkEach(context: SchemaContext): Promise<Checked[]> {
  refuseSharedSubjects(context);
  const subjects = new Set(await context.client.subjects());
  return ofEach(context.files, async (file) => ({ file, report: await checkFile(context, file, subjects) }));
}

/** A subject that the registry does not list has no version; but it may have a level. */
async function checkFile(
  context: SchemaContext,
  file: SchemaFile,
  subjects: ReadonlySet<string>,
): Promise<SchemaReport> {
  const { client } = context;
  const { topic, subject } = addressOf(context, file);
  const versions = subjects.has(subject) ? await versionsOf(client, subject) : [];
  const same = versions.findLast(({ schema }) => sameSchema(schema, file.text));
  const breaks = same === undefined ? await breaksOf(client, file, subject, versions) : [];
  const state =
    same !== undefined ? 'registered' : breaks.length > 0 ? 'incompatible' : versions.length > 0 ? 'changed' : 'new';
  return {
    file: file.file,
    type: file.tree.name,
    topic,
    subject,
    state,
    level: file.level,
    registeredLevel: await client.compatibilityLevel(subject),
    version: same?.version ?? null,
    id: same?.id ?? null,
    newestVersion: versions.at(-1)?.version ?? null,
    breaks,
  };
}

async function breaksOf(
  client: RegistryClient,
  file: SchemaFile,
  subject: string,
  versions: readonly SubjectVersion[],
): Promise<Break[]> {
  if (versions.length === 0) return [];
  const breaks = findBreaks(file.tree, versions.flatMap(parsedVersion), file.level);
  const verdict = await client.checkCompatibility(subject, file.text);
  if (breaks.length > 0 || verdict.compatible) return breaks;
  const problem =
    verdict.messages.join('; ').slice(0, 1_000) || 'the registry finds it incompatible and gives no reason';
  return [{ path: '', problem, mend: 'compare it with the registered versions (`./ferry schemas list`)' }];
}

/** Nothing for a version that is no Avro that Ferry can read: the registry's verdict then stands alone. */
function parsedVersion({ version, schema }: SubjectVersion): SchemaVersion[] {
  try {
    return [{ version, tree: parseSchema(schema) }];
  } catch (thrown) {
    if (thrown instanceof SchemaSyntaxError) return [];
    throw thrown;
  }
}

async function pushFile(
  client: RegistryClient,
  file: SchemaFile,
  report: SchemaReport,
): Promise<{ readonly report: SchemaReport; readonly changes: readonly string[] }> {
  const { subject, type, level, registeredLevel, state } = report;
  const changes: string[] = [];
  if (registeredLevel !== level) {
    await client.setCompatibilityLevel(subject, file.level);
    changes.push(`${subject}: compatibility level ${registeredLevel ?? 'not set'} → ${level}`);
  }
  if (state === 'registered') return { report: { ...report, registeredLevel: level }, changes };
  const id = await client.register(subject, file.text, file.level);
  const version = await versionOfId(client, subject, id);
  changes.push(`${subject}: ${type} registered as version ${version}, id ${id}`);
  const registered = { state: 'registered', registeredLevel: level, version, id, newestVersion: version } as const;
  return { report: { ...report, ...registered }, changes };
}

/** Nearly always the newest, which is asked for first; null if it was deleted meanwhile. */
async function versionOfId(client: RegistryClient, subject: string, id: number): Promise<number | null> {
  const newest = await client.version(subject, 'latest');
  if (newest?.id === id) return newest.version;
  return (await versionsOf(client, subject)).findLast((item) => item.id === id)?.version ?? null;
}

/** All versions of a subject, ascending; empty when it is unknown. */
async function versionsOf(client: RegistryClient, subject: string): Promise<SubjectVersion[]> {
  const versions: SubjectVersion[] = [];
  for (const version of (await client.versionsOf(subject)) ?? []) {
    const found = await client.version(subject, version);
    if (found !== null) versions.push(found);
  }
  return versions;
}

function sameSchema(a: string, b: string): boolean {
  try {
    return a === b || canonicalJson(JSON.parse(a)) === canonicalJson(JSON.parse(b));
  } catch {
    return false; // not JSON: a subject of another kind
  }
}
