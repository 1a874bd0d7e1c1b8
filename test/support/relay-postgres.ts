/** A Postgres server of a test's own, beside the stack's: another system identifier, and data that can be taken back to an earlier day. */
import { randomBytes } from 'node:crypto';
import { chmodSync, cpSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { runSql } from '../../src/cli/sql-runner.ts';
import { loadConfig } from '../../src/config/load.ts';
import { Home } from '../../src/embedded/home.ts';
import { startEmbeddedStack } from '../../src/embedded/stack.ts';
import { migrate, migrationSets } from '../../src/postgres/migrate.ts';

export interface OwnPostgres {
  /** A migrated database with the example module. */
  readonly databaseUrl: string;
  /** Stops the server, keeps a copy of its data, and starts it again: as a backup on a volume. */
  backUp(): Promise<void>;
  /** Stops the server, puts the copy back, and starts it. */
  restore(): Promise<void>;
  close(): Promise<void>;
}

const HOMES = resolve(import.meta.dirname, '../../.ferry-cache/test-homes');

export async function startOwnPostgres(): Promise<OwnPostgres> {
  const home = new Home(join(HOMES, `${process.pid}-postgres-${randomBytes(3).toString('hex')}`));
  await home.claim();
  const embedded = await startEmbeddedStack({
    home,
    postgres: true,
    kafka: false,
    registry: false,
    ports: { postgres: 0, kafka: 0, registry: 0 },
    sql: runSql,
  });
  const { postgresUrl: databaseUrl = '' } = embedded;
  await migrate(loadConfig({ DATABASE_URL: databaseUrl }), migrationSets('commerce'));
  const [data, copy] = [home.path('postgres'), home.path('postgres.copy')];
  return {
    databaseUrl,
    async backUp() {
      await embedded.part('postgres').stop();
      cpSync(data, copy, { recursive: true, preserveTimestamps: true });
      chmodSync(copy, 0o700); // Postgres insists, and copying leaves a directory's mode to the umask
      await embedded.part('postgres').start();
    },
    async restore() {
      await embedded.part('postgres').stop();
      rmSync(data, { recursive: true });
      renameSync(copy, data);
      await embedded.part('postgres').start(); // gives the files to the server's user again
    },
    async close() {
      await embedded.stop();
      rmSync(home.directory, { recursive: true, force: true });
    },
  };
}
