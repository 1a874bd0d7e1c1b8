/**
 * Real Postgres, Kafka and registry for tests. `./ferry test` starts one stack for the whole run and passes its addresses on; a test
 * file run by itself starts its own. Each file gets a database, a topic prefix and a relay name of its own, so that files can run
 * side by side.
 *
 *     const stack = await testStack();   // at the top of the file: it ends with the file
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after } from 'node:test';
import { runSql } from '../../src/cli/sql-runner.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/variables.ts';
import { Home } from '../../src/embedded/home.ts';
import { type EmbeddedStack, startEmbeddedStack } from '../../src/embedded/stack.ts';
import { sleep } from '../../src/kernel/deadline.ts';
import { migrate, migrationSets } from '../../src/postgres/migrate.ts';

/** The variables by which a test run hands its stack to the test files. */
export const SHARED_STACK = {
  postgresUrl: 'FERRY_TEST_POSTGRES_URL',
  kafkaBrokers: 'FERRY_TEST_KAFKA_BROKERS',
  registryUrl: 'FERRY_TEST_REGISTRY_URL',
} as const;

export interface StackAddresses {
  readonly postgresUrl: string;
  readonly kafkaBrokers: string;
  readonly registryUrl: string;
}

export interface TestStack extends StackAddresses {
  /** A migrated database (with all sets) that only this file uses. */
  readonly databaseUrl: string;
  readonly topicPrefix: string;
  readonly relayName: string;
  /** What a process needs in its environment to use all of it. */
  readonly environment: Readonly<Record<string, string>>;
  readonly config: Config;
  /** Another migrated database on the same server, dropped with the file; `empty`: nothing has been migrated into it. */
  createDatabase(options?: { readonly empty?: boolean }): Promise<string>;
}

export interface OwnStack extends TestStack {
  /** Its parts can be stopped, killed and started again. */
  readonly embedded: EmbeddedStack;
}

const HOMES = resolve(import.meta.dirname, '../../.ferry-cache/test-homes');
const MIGRATIONS = resolve(import.meta.dirname, '../../migrations');

/** The stack of this test run, with a database of the calling file's own. Call it at the top level of the file. */
export async function testStack(): Promise<TestStack> {
  const shared = sharedAddresses();
  if (shared !== undefined) return forFile(shared, []);
  return ownStack();
}

/** A stack that this file alone uses and may break. Call it at the top level of the file. */
export async function ownStack(): Promise<OwnStack> {
  const { embedded, addresses, close } = await startTestStack();
  return { ...(await forFile(addresses, [close])), embedded };
}

/** Starts a stack on free ports in a home that is deleted when it is closed; clears what test runs that were killed left. */
export async function startTestStack(): Promise<{
  embedded: EmbeddedStack;
  addresses: StackAddresses;
  close: () => Promise<void>;
}> {
  await clearAbandoned();
  const home = await claimTestHome();
  const embedded = await startEmbeddedStack({
    home,
    postgres: true,
    kafka: true,
    registry: true,
    ports: { postgres: 0, kafka: 0, registry: 0 },
    sql: runSql,
    progress: (message) => console.error(message),
  });
  const { postgresUrl = '', kafkaBrokers = '', registryUrl = '' } = embedded;
  const close = async () => {
    await embedded.stop();
    rmSync(home.directory, { recursive: true, force: true });
  };
  return { embedded, addresses: { postgresUrl, kafkaBrokers, registryUrl }, close };
}

/** A fresh home that whoever claims it deletes; after a kill the next test run does. */
export async function claimTestHome(): Promise<Home> {
  const home = new Home(join(HOMES, `${process.pid}-${randomBytes(3).toString('hex')}`));
  await home.claim();
  return home;
}

async function clearAbandoned(): Promise<void> {
  if (!existsSync(HOMES)) return;
  for (const name of readdirSync(HOMES)) {
    const home = new Home(join(HOMES, name));
    if (!home.abandoned) continue;
    await home.clearRecorded();
    rmSync(home.directory, { recursive: true, force: true });
  }
}

function sharedAddresses(): StackAddresses | undefined {
  const postgresUrl = process.env[SHARED_STACK.postgresUrl];
  const kafkaBrokers = process.env[SHARED_STACK.kafkaBrokers];
  const registryUrl = process.env[SHARED_STACK.registryUrl];
  if (postgresUrl === undefined || kafkaBrokers === undefined || registryUrl === undefined) return undefined;
  return { postgresUrl, kafkaBrokers, registryUrl };
}

/** `releases` run after the databases are dropped. */
async function forFile(addresses: StackAddresses, releases: Array<() => Promise<void>>): Promise<TestStack> {
  const name = `t${randomBytes(5).toString('hex')}`;
  const databases: string[] = [];
  const createDatabase: TestStack['createDatabase'] = async ({ empty = false } = {}) => {
    const database = `${name}_${databases.length}`;
    databases.push(database);
    if (empty) await runSql(addresses.postgresUrl, `create database ${database}`);
    else await createFromTemplate(addresses.postgresUrl, database);
    return onDatabase(addresses.postgresUrl, database);
  };
  after(async () => {
    // a stack of the file's own goes as a whole; dropping in a shared one keeps its 64 replication slots from running out
    if (releases.length === 0) for (const database of databases) await dropDatabase(addresses.postgresUrl, database);
    for (const release of releases) await release();
  });
  const environment = {
    DATABASE_URL: await createDatabase(),
    KAFKA_BROKERS: addresses.kafkaBrokers,
    SCHEMA_REGISTRY_URL: addresses.registryUrl,
    TOPIC_PREFIX: `${name}.`,
    RELAY_NAME: name,
    FERRY_MODULES: 'commerce',
    HTTP_PORT: '0',
    LOG_FORMAT: 'json',
  };
  return {
    ...addresses,
    databaseUrl: environment.DATABASE_URL,
    topicPrefix: environment.TOPIC_PREFIX,
    relayName: name,
    environment,
    config: loadConfig(environment),
    createDatabase,
  };
}

function onDatabase(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.toString();
}

/**
 * Copies the migrated template, which the first to come makes. It is made under another name and renamed, so that what has the
 * template's name is always whole.
 */
async function createFromTemplate(serverUrl: string, database: string): Promise<void> {
  const template = `template_${migrationsHash()}`;
  for (let attempt = 0; ; attempt++) {
    const existing = await runSql(serverUrl, `select 1 from pg_database where datname = '${template}'`);
    if (existing.length === 0) await makeTemplate(serverUrl, template);
    try {
      await runSql(serverUrl, `create database ${database} template ${template}`);
      return;
    } catch (error) {
      // autovacuum, or the session that renamed it, may still be leaving
      if ((error as { code?: string }).code !== '55006' || attempt === 50) throw error;
      await sleep(100);
    }
  }
}

async function makeTemplate(serverUrl: string, template: string): Promise<void> {
  const draft = `${template}_${randomBytes(4).toString('hex')}`;
  await runSql(serverUrl, `create database ${draft}`);
  const config = loadConfig({ DATABASE_URL: onDatabase(serverUrl, draft) });
  await migrate(config, migrationSets('commerce'));
  try {
    await runSql(serverUrl, `alter database ${draft} rename to ${template}`);
  } catch (error) {
    if ((error as { code?: string }).code !== '42P04') throw error;
    await runSql(serverUrl, `drop database ${draft} with (force)`); // another file was faster
  }
}

function migrationsHash(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(MIGRATIONS, { recursive: true, encoding: 'utf8' }).sort()) {
    if (file.endsWith('.sql')) hash.update(file).update(readFileSync(join(MIGRATIONS, file)));
  }
  return hash.digest('hex').slice(0, 12);
}

/** Slots first: a database with a logical slot cannot be dropped, and one that is in use cannot either. */
async function dropDatabase(serverUrl: string, database: string): Promise<void> {
  const slots = `from pg_replication_slots where database = '${database}'`;
  for (let attempt = 0; attempt < 50; attempt++) {
    await runSql(serverUrl, `select pg_terminate_backend(active_pid) ${slots} and active_pid is not null`);
    await runSql(serverUrl, `select pg_drop_replication_slot(slot_name) ${slots} and active_pid is null`);
    if ((await runSql(serverUrl, `select 1 ${slots}`)).length === 0) break;
    await sleep(100);
  }
  await runSql(serverUrl, `drop database if exists ${database} with (force)`);
}
