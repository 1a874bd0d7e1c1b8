/**
 * Brings a database to this version of Ferry: plain numbered SQL files, forward only, each in a transaction of its own, its checksum
 * kept. Any number of instances may start at once: they take turns behind an advisory lock.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { type DatabaseConfig, OWN_DATABASE_NAMES, type OwnDatabaseName, variableOf } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';
import { clientConfig } from './connection.ts';
import { describeSharing } from './own-database.ts';
import { ensureIdempotencyPartitions, ensureInboxPartitions, ensurePartitions } from './partitions.ts';
import { ferryErrorOf } from './sqlstate.ts';

/**
 * `ferry` is the product and belongs into every database; `commerce` is the example module's orders, the others are those of its participants
 * that may have a database of their own. Each is a folder of migrations/.
 */
const MIGRATION_SETS = ['ferry', 'commerce', ...OWN_DATABASE_NAMES] as const;
export type MigrationSet = 'ferry' | 'commerce' | OwnDatabaseName;

export interface Migration {
  readonly set: MigrationSet;
  readonly number: number;
  /** File name without folder. */
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the text with LF line ends, in hexadecimal. */
  readonly checksum: string;
}

/** One step that changed the database. */
export type MigrationStep =
  | { readonly kind: 'applied'; readonly set: MigrationSet; readonly name: string; readonly milliseconds: number }
  | { readonly kind: 'partitions'; readonly created: number }
  | { readonly kind: 'publication'; readonly name: string };

export type MigrateSettings = Pick<
  DatabaseConfig,
  'DATABASE_URL' | 'POSTGRES_TLS' | 'PUBLICATION_NAME' | 'INBOX_RETENTION_DAYS' | 'own'
>;

const MIGRATIONS_DIR = join(import.meta.dirname, '..', '..', 'migrations');
/** Key of the advisory lock: the bytes of `ferry` and `mig`. Locks of Ferry that depend on data use other keys. */
const MIGRATION_LOCK = '7378429400505477479';

/** The sets of a database that holds everything: `ferry`, and those of the example modules of FERRY_MODULES. Throws CONFIG_INVALID. */
export function migrationSets(modules: Config['FERRY_MODULES']): MigrationSet[] {
  const sets = new Set<MigrationSet>(['ferry']);
  for (const name of modules.split(',').map((item) => item.trim())) {
    if (name === 'commerce') for (const set of MIGRATION_SETS) sets.add(set);
    else if (name !== '') {
      throw new FerryError(
        'CONFIG_INVALID',
        `FERRY_MODULES has ${JSON.stringify(name)}; it takes commerce, or nothing`,
        {
          details: { variable: 'FERRY_MODULES' },
        },
      );
    }
  }
  return [...sets];
}

/** Reads a set's files in their order. Throws if a name is not `NNNN_what.sql` or a number is taken twice. */
export async function readMigrations(set: MigrationSet, directory = MIGRATIONS_DIR): Promise<Migration[]> {
  const folder = join(directory, set);
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort();
  const migrations: Migration[] = [];
  for (const name of names) {
    const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1]);
    if (Number.isNaN(number)) throw new Error(`${join(folder, name)}: a migration is named NNNN_what_it_does.sql`);
    if (migrations.at(-1)?.number === number) throw new Error(`${join(folder, name)}: number ${number} is taken twice`);
    const sql = (await readFile(join(folder, name), 'utf8')).replaceAll('\r\n', '\n');
    migrations.push({ set, number, name, sql, checksum: createHash('sha256').update(sql).digest('hex') });
  }
  return migrations;
}

/**
 * Applies what is missing, then makes the publication and the partitions of the coming days. Returns the steps taken; `onStep` hears
 * of each as it happens. Running it again changes nothing but adding new days. Throws MIGRATION_CHANGED if a file that was applied
 * has changed or a new one is numbered below the newest applied, CONFIG_INVALID if what should be a participant's own database is another's,
 * PART_UNREACHABLE if the database cannot be reached.
 */
export async function migrate(
  config: MigrateSettings,
  sets: readonly MigrationSet[],
  onStep: (step: MigrationStep) => void = () => {},
): Promise<MigrationStep[]> {
  const steps: MigrationStep[] = [];
  const report = (step: MigrationStep) => {
    steps.push(step);
    onStep(step);
  };
  const client = new pg.Client(clientConfig(config, 'ferry-migrate'));
  client.on('error', () => {}); // a connection that dies also fails the query in flight, which is where it is handled
  try {
    await client.connect();
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    const sharing = await describeSharing(client, config.own);
    if (sharing !== null)
      throw new FerryError('CONFIG_INVALID', sharing, { details: { variable: variableOf(config.own) } });
    await client.query(BOOTSTRAP);
    await followMoved(client);
    for (const set of sets) await applySet(client, set, report);
    await ensurePublication(client, config.PUBLICATION_NAME, report);
    const created =
      (await ensurePartitions(client)) +
      (await ensureInboxPartitions(client, config.INBOX_RETENTION_DAYS)) +
      (await ensureIdempotencyPartitions(client));
    if (created > 0) report({ kind: 'partitions', created });
  } catch (error) {
    throw ferryErrorOf(error, variableOf(config.own)) ?? error;
  } finally {
    await client.end().catch(() => {}); // ends the session, and the lock with it
  }
  return steps;
}

const BOOTSTRAP = `
  create schema if not exists ferry;
  create table if not exists ferry.schema_migration (
    set text not null,
    number int not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (set, number)
  );`;

/** A file may move to another set as it is; where it was applied before, it was. The npm package brings `ferry` alone. */
async function followMoved(client: pg.Client): Promise<void> {
  const sets = MIGRATION_SETS.filter((set) => existsSync(join(MIGRATIONS_DIR, set)));
  const files = (await Promise.all(sets.map((set) => readMigrations(set)))).flat();
  await client.query(
    `update ferry.schema_migration applied set set = file.set
     from unnest($1::text[], $2::int[], $3::text[], $4::text[]) as file(set, number, name, checksum)
     where applied.set <> file.set and (applied.number, applied.name, applied.checksum) = (file.number, file.name, file.checksum)`,
    [
      ...[files.map(({ set }) => set), files.map(({ number }) => number)],
      ...[files.map(({ name }) => name), files.map(({ checksum }) => checksum)],
    ],
  );
}

async function applySet(client: pg.Client, set: MigrationSet, report: (step: MigrationStep) => void): Promise<void> {
  const migrations = await readMigrations(set);
  const { rows } = await client.query<{ number: number; checksum: string }>(
    'select number, checksum from ferry.schema_migration where set = $1',
    [set],
  );
  const applied = new Map(rows.map((row) => [row.number, row.checksum]));
  for (const migration of pendingMigrations(migrations, applied)) {
    const started = performance.now();
    await applyOne(client, migration);
    const milliseconds = Math.round(performance.now() - started);
    report({ kind: 'applied', set: migration.set, name: migration.name, milliseconds });
  }
}

/**
 * The migrations still to apply, given the checksums of the applied ones by number. Applied ones that this version does not know and
 * that are newer than all it knows are fine: during a rolling update an old instance may start on a database already migrated.
 * Throws MIGRATION_CHANGED.
 */
export function pendingMigrations(
  migrations: readonly Migration[],
  applied: ReadonlyMap<number, string>,
): readonly Migration[] {
  const newest = Math.max(0, ...applied.keys());
  const changed = (name: string, what: string) =>
    new FerryError('MIGRATION_CHANGED', `migration ${name} ${what}`, { details: { migration: name } });
  for (const { number, name, checksum } of migrations) {
    const known = applied.get(number);
    if (known !== undefined && known !== checksum) throw changed(name, 'is not the file that was applied');
    if (known === undefined && number < newest) throw changed(name, `is numbered below the newest applied, ${newest}`);
  }
  const numbers = new Set(migrations.map(({ number }) => number));
  const last = migrations.at(-1)?.number ?? 0;
  for (const number of applied.keys()) {
    if (number < last && !numbers.has(number)) throw changed(String(number), 'was applied and its file is gone');
  }
  return migrations.filter(({ number }) => !applied.has(number));
}

async function applyOne(client: pg.Client, migration: Migration): Promise<void> {
  await client.query('begin');
  try {
    await client.query(migration.sql);
    await client.query('insert into ferry.schema_migration (set, number, name, checksum) values ($1, $2, $3, $4)', [
      migration.set,
      migration.number,
      migration.name,
      migration.checksum,
    ]);
    await client.query('commit');
  } catch (cause) {
    await client.query('rollback').catch(() => {});
    throw new Error(`migration ${migration.set}/${migration.name} failed`, { cause });
  }
}

/** The name is configuration, so the publication cannot stand in a file; the function that makes it does. */
async function ensurePublication(client: pg.Client, name: string, report: (step: MigrationStep) => void) {
  const { rows } = await client.query<{ created: boolean }>('select ferry.ensure_publication($1) as created', [name]);
  if (rows[0]?.created === true) report({ kind: 'publication', name });
}
