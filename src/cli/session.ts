/**
 * What a command works with: the home that it was pointed at, and the configuration that follows from the environment and from what
 * runs in that home.
 */
import { join, resolve } from 'node:path';
import {
  type DatabaseConfig,
  type DatabaseName,
  databasesOf,
  OWN_DATABASE_NAMES,
  OWN_DATABASES,
  variableOf,
} from '../config/databases.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/variables.ts';
import { Home } from '../embedded/home.ts';
import { throughSocket } from '../embedded/postgres.ts';
import { FerryError } from '../kernel/errors.ts';
import { createTerminal, type Terminal } from './terminal.ts';

export const REPOSITORY = resolve(import.meta.dirname, '../..');

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Session {
  readonly home: Home;
  readonly terminal: Terminal;
  /** The variables as given, completed by `--home` and by paths that do not depend on the working directory. */
  readonly environment: Environment;
  readonly json: boolean;
}

export interface CommonOptions {
  readonly home?: string;
  readonly json?: boolean;
}

export function openSession(environment: Environment, options: CommonOptions): Session {
  const directory = options.home ?? (environment.FERRY_HOME || join(REPOSITORY, '.ferry'));
  const home = new Home(directory);
  return {
    home,
    terminal: createTerminal(options.json === true),
    environment: {
      ...environment,
      FERRY_HOME: home.directory,
      SCHEMAS_DIR: environment.SCHEMAS_DIR || join(REPOSITORY, 'schemas'),
    },
    json: options.json === true,
  };
}

/** The environment by which a process reaches the home's parts; what is set by hand wins. */
export function partsEnvironment(session: Session): Environment {
  const { home } = session;
  const { postgresUrl, ownDatabaseUrls, kafkaBrokers, registryUrl, paymentProviderUrl } = home.addresses();
  const local = (url: string | undefined) => (url === undefined ? undefined : throughSocket(home, url));
  const { DATABASE_URL, KAFKA_BROKERS, SCHEMA_REGISTRY_URL, PAYMENT_PROVIDER_URL } = session.environment;
  const own = OWN_DATABASE_NAMES.map((name) => {
    const variable = OWN_DATABASES[name];
    // the home's databases belong together: beside another main one those of its participants would be strangers
    return [variable, session.environment[variable] || (DATABASE_URL ? undefined : local(ownDatabaseUrls?.[name]))];
  });
  return {
    ...session.environment,
    DATABASE_URL: DATABASE_URL || local(postgresUrl),
    ...Object.fromEntries(own),
    KAFKA_BROKERS: KAFKA_BROKERS || kafkaBrokers,
    SCHEMA_REGISTRY_URL: SCHEMA_REGISTRY_URL || registryUrl,
    PAYMENT_PROVIDER_URL: PAYMENT_PROVIDER_URL || paymentProviderUrl,
  };
}

/** The configuration with which a command speaks to the parts. Throws CONFIG_INVALID. */
export function sessionConfig(session: Session): Config {
  return loadConfig(partsEnvironment(session));
}

/** The database that `--database` names. Throws PART_UNREACHABLE, or INVALID_REQUEST if the participant has none of its own. */
export function requireDatabase(config: Config, database: DatabaseName): DatabaseConfig {
  if (database === 'main') requireAddress(config, 'DATABASE_URL');
  const found = databasesOf(config).get(database);
  if (found !== undefined) return found;
  const problem = `${database} has no database of its own: ${variableOf(database)} is not set`;
  throw new FerryError('INVALID_REQUEST', `--database is ${database}, and ${problem}`);
}

/** The address of a part. Throws PART_UNREACHABLE when none is set and the home has none either. */
export function requireAddress(config: Config, name: 'DATABASE_URL' | 'KAFKA_BROKERS' | 'SCHEMA_REGISTRY_URL'): string {
  const address = config[name];
  if (address !== undefined) return address;
  throw new FerryError('PART_UNREACHABLE', `${name} is not set, and nothing was ever started in ${config.FERRY_HOME}`);
}
