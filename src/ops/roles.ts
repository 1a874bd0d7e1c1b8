/** What a process does, and which databases that takes: FERRY_ROLES, read. */
import {
  type DatabaseName,
  type Databases,
  databaseOf,
  OWN_DATABASE_NAMES,
  type OwnDatabaseName,
  variableOf,
} from '../config/databases.ts';
import { CONSUMER_ROLES, type ConsumerRole } from '../domain/commerce/roles.ts';
import { FerryError } from '../kernel/errors.ts';

/** A relay of one database, for who runs each in a process of its own. */
type RelayRole = `relay:${DatabaseName}`;

const RELAY_ROLES: readonly RelayRole[] = ['relay:main', ...OWN_DATABASE_NAMES.map((name) => `relay:${name}` as const)];
/** `consumers` stands for all consumer roles, `relay` for the relays of all databases. */
const ROLES = ['api', 'relay', ...RELAY_ROLES, 'ops', ...CONSUMER_ROLES] as const;
export type Role = 'api' | 'relay' | RelayRole | 'ops' | ConsumerRole;

/** Parses FERRY_ROLES. Throws CONFIG_INVALID. */
export function parseRoles(text: string): Set<Role> {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
    .flatMap((name) => (name === 'consumers' ? CONSUMER_ROLES : [name]));
  const roles = new Set<Role>(ROLES.filter((role) => names.includes(role)));
  if (roles.size === 0 || roles.size !== new Set(names).size) {
    const known = ['api', 'relay', 'ops', 'consumers', ...CONSUMER_ROLES, ...RELAY_ROLES].join(', ');
    throw invalid(`is ${JSON.stringify(text)}; it takes ${known}, separated by commas`);
  }
  return roles;
}

/** The databases whose relays the roles run, in their order. Throws CONFIG_INVALID if one is named that is not configured. */
export function relaysOf(roles: ReadonlySet<Role>, databases: Databases): DatabaseName[] {
  const wanted = roles.has('relay') ? [...databases.keys()] : [];
  for (const role of RELAY_ROLES.filter((name) => roles.has(name))) {
    const name = role.slice('relay:'.length) as DatabaseName;
    if (!databases.has(name)) {
      throw invalid(`has ${role}, and ${name} has no database of its own: ${variableOf(name)} is not set`);
    }
    if (!wanted.includes(name)) wanted.push(name);
  }
  return wanted;
}

/** What readiness calls a database's relay. */
export function relayPart(database: DatabaseName): string {
  return database === 'main' ? 'relay' : `relay-${database}`;
}

/** Where a consumer's inbox is, and what it writes. */
export function databaseOfConsumer(role: ConsumerRole, databases: Databases): DatabaseName {
  return isParticipant(role) ? databaseOf(databases, role) : 'main';
}

/** The databases that the roles work with, in the order of `databases`. Throws as `relaysOf` does. */
export function databasesInUse(roles: ReadonlySet<Role>, databases: Databases): DatabaseName[] {
  const used = new Set<DatabaseName>(relaysOf(roles, databases));
  if (roles.has('ops')) for (const name of databases.keys()) used.add(name);
  if (roles.has('api')) used.add('main').add(databaseOf(databases, 'inventory')); // whose stock it shows and takes in
  for (const role of CONSUMER_ROLES) if (roles.has(role)) used.add(databaseOfConsumer(role, databases));
  return [...databases.keys()].filter((name) => used.has(name));
}

function isParticipant(role: ConsumerRole): role is OwnDatabaseName & ConsumerRole {
  return OWN_DATABASE_NAMES.some((name) => name === role);
}

function invalid(problem: string): FerryError {
  return new FerryError('CONFIG_INVALID', `FERRY_ROLES ${problem}`, { details: { variable: 'FERRY_ROLES' } });
}
