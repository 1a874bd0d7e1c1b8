/** The embedded Postgres: a cluster of its own in the home, with logical replication, scram passwords, loopback only. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FerryError } from '../kernel/errors.ts';
import type { Home } from './home.ts';
import { giveTo, runAs, unprivilegedUser } from './os-user.ts';
import type { PartRecipe } from './part.ts';
import { findPostgresBinaries } from './postgres-binaries.ts';

const run = promisify(execFile);

/** Runs one statement on a database given by URL; the caller's, because only `postgres/` knows the driver. */
export type SqlRunner = (databaseUrl: string, statement: string) => Promise<Array<Record<string, unknown>>>;

const SERVER_SETTINGS = {
  listen_addresses: '127.0.0.1',
  wal_level: 'logical',
  max_prepared_transactions: '20',
  max_replication_slots: '64',
  max_wal_senders: '64',
  max_connections: '200',
  shared_buffers: '128MB',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %d %a ',
};

/** Locale C with UTF-8: the same order of text on every machine. TZ, because the server's children read it. */
const ENVIRONMENT = { LC_ALL: 'C', TZ: 'UTC', PGTZ: 'UTC' };

export function postgresUrl(home: Home, port: number, database: string): string {
  return `postgres://postgres:${home.secret('postgres')}@127.0.0.1:${port}/${database}`;
}

/** sun_path has room for 104 bytes on macOS and 108 on Linux; `/.s.PGSQL.65535` and a final zero come behind the directory. */
const SOCKET_DIRECTORY_BYTES = 88;

/** Where the server has its socket: in its own cluster, so that homes do not meet; none where the path is too long, or a list by its form. */
function socketDirectory(home: Home): string | null {
  const directory = home.path('postgres');
  return Buffer.byteLength(directory) <= SOCKET_DIRECTORY_BYTES && !/[",]/.test(directory) ? directory : null;
}

/**
 * The same address by the server's socket, where there is one: a statement costs a few per cent less than over TCP. libpq's form, in which
 * `host` is the directory: those who do not know it still connect by the rest.
 */
export function throughSocket(home: Home, url: string): string {
  const directory = socketDirectory(home);
  const { port } = new URL(url);
  if (directory === null || !existsSync(join(directory, `.s.PGSQL.${port}`))) return url;
  return `${url}?host=${encodeURIComponent(directory)}`;
}

export function postgresRecipe(home: Home, port: number, sql: SqlRunner): PartRecipe {
  const data = home.path('postgres');
  const binaries = findPostgresBinaries();
  const settings = Object.entries({
    ...SERVER_SETTINGS,
    port: String(port),
    unix_socket_directories: socketDirectory(home) ?? '',
  });
  const args = ['-D', data, ...settings.flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const server = runAs(unprivilegedUser(), binaries.postgres, args, [data, binaries.postgres]);
  return {
    name: 'postgres',
    port,
    prepare: async () => {
      if (!existsSync(data)) await initialise(home, data);
      giveTo(server.owner, data); // the way in may have been opened or closed since the last start
    },
    command: () => ({ home, env: ENVIRONMENT, ...server }),
    probe: () => sql(postgresUrl(home, port, 'postgres'), 'select 1'),
    readyTimeoutMs: 60_000,
    startAttempts: 20, // the children of a killed server hold its shared memory until they have noticed
    stopSignals: [
      ['SIGINT', 15_000], // fast shutdown: clients are disconnected, then a checkpoint
      ['SIGQUIT', 5_000], // immediate: recovers from the WAL at the next start
    ],
  };
}

/** Made aside and renamed, so that a cluster is whole or absent; a kill in the middle costs nothing but time. */
async function initialise(home: Home, data: string): Promise<void> {
  const { initdb } = findPostgresBinaries();
  const draft = home.path('postgres.draft');
  const passwordFile = home.path('postgres.initial');
  const args = ['-D', draft, '-U', 'postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256'];
  args.push('--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions');
  const command = runAs(unprivilegedUser(), initdb, args, [draft, initdb]);
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  writeFileSync(passwordFile, home.secret('postgres'), { mode: 0o600 });
  for (const path of [draft, passwordFile]) giveTo(command.owner, path);
  try {
    await run(command.command, [...command.args], {
      env: { ...process.env, ...ENVIRONMENT },
      cwd: '/',
      ...(command.user ?? {}),
    });
    renameSync(draft, data);
  } catch (cause) {
    const output = String((cause as { stderr?: string }).stderr ?? '').trim();
    throw new FerryError('PART_UNREACHABLE', `initdb failed in ${home.directory}: ${output}`);
  } finally {
    rmSync(passwordFile, { force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}
