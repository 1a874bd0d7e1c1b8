/**
 * The databases that a configuration names: the main one, and those of participants that have one of their own. Each is seen through the
 * configuration of a process that works on it alone, so that whatever takes a configuration takes any of them.
 */
import { FerryError } from '../kernel/errors.ts';
import type { Config, VariableName } from './variables.ts';

/** Participants that may have a database of their own, and the variable that names it. */
export const OWN_DATABASES = {
  payment: 'PAYMENT_DATABASE_URL',
  inventory: 'INVENTORY_DATABASE_URL',
  shipping: 'SHIPPING_DATABASE_URL',
} as const satisfies Record<string, VariableName>;

export type OwnDatabaseName = keyof typeof OWN_DATABASES;
export const OWN_DATABASE_NAMES = Object.keys(OWN_DATABASES) as OwnDatabaseName[];
/** `main` is DATABASE_URL's: orders, sagas, projections, API keys, and whatever has no database of its own. */
export type DatabaseName = 'main' | OwnDatabaseName;

/** DATABASE_URL is this database's, RELAY_NAME and RELAY_SLOT are those of its relay. */
export interface DatabaseConfig extends Config {
  /** Whose own it is; left out: the main one. */
  readonly own?: OwnDatabaseName;
}

/** In the order in which they are worked on: `main` first. */
export type Databases = ReadonlyMap<DatabaseName, DatabaseConfig>;

/**
 * A participant whose variable is unset, or equals DATABASE_URL, has none of its own. Throws CONFIG_INVALID if two participants name the same
 * one: their relays would publish each other's events.
 */
export function databasesOf(config: Config): Databases {
  const { PAYMENT_DATABASE_URL: _, INVENTORY_DATABASE_URL: __, SHIPPING_DATABASE_URL: ___, ...main } = config;
  const databases = new Map<DatabaseName, DatabaseConfig>([['main', main]]);
  for (const own of OWN_DATABASE_NAMES) {
    const variable = OWN_DATABASES[own];
    const url = config[variable];
    if (url === undefined || url === config.DATABASE_URL) continue;
    const other = OWN_DATABASE_NAMES.find((name) => databases.get(name)?.DATABASE_URL === url);
    if (other !== undefined) {
      throw invalid(
        variable,
        `names the database of ${OWN_DATABASES[other]}; each participant has one of its own, or none`,
      );
    }
    databases.set(own, configOf(main, own, url));
  }
  return databases;
}

function configOf(main: Config, own: OwnDatabaseName, url: string): DatabaseConfig {
  const slot = main.RELAY_SLOT === undefined ? {} : { RELAY_SLOT: `${main.RELAY_SLOT}_${own}` };
  return { ...main, DATABASE_URL: url, RELAY_NAME: `${main.RELAY_NAME}_${own}`, ...slot, own };
}

/** Where a participant keeps what is its own. */
export function databaseOf(databases: Databases, participant: OwnDatabaseName): DatabaseName {
  return databases.has(participant) ? participant : 'main';
}

/** The variable that names the database. */
export function variableOf(own: DatabaseName | undefined): VariableName {
  return own === undefined || own === 'main' ? 'DATABASE_URL' : OWN_DATABASES[own];
}

function invalid(variable: VariableName, problem: string): FerryError {
  return new FerryError('CONFIG_INVALID', `${variable} ${problem}`, { details: { variable } });
}
