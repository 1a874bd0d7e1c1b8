/** `./ferry migrate`: brings each database of the configuration to this version. */
import {
  type DatabaseName,
  databasesOf,
  OWN_DATABASE_NAMES,
  type OwnDatabaseName,
  variableOf,
} from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { type MigrationSet, type MigrationStep, migrate, migrationSets } from '../postgres/migrate.ts';
import { Pools } from '../postgres/pools.ts';
import { type CommonOptions, requireDatabase, type Session, sessionConfig } from './session.ts';

/** A step, and the database that it changed. */
export type DatabaseStep = MigrationStep & { readonly database: DatabaseName };

export interface MigrateOptions extends CommonOptions {
  /** Left out: all. */
  readonly database?: DatabaseName;
}

export async function runMigrate(session: Session, options: MigrateOptions): Promise<void> {
  const config = sessionConfig(session);
  const only = options.database;
  requireDatabase(config, only ?? 'main');
  const names = only === undefined ? [...databasesOf(config).keys()] : [only];
  const steps = await migrateDatabases(config, (step) => session.terminal.note(stepText(step)), names);
  if (only === undefined) {
    for (const own of await leftBehind(config)) {
      const what = `DATABASE_URL’s database has rows of ${own} that the one of ${variableOf(own)} does not have, and nobody looks at any more`;
      session.terminal.note(`${what}: docs/OPERATIONS.md#databases-of-their-own says how to move them`);
    }
  }
  if (session.json) session.terminal.printJson({ steps });
  else if (steps.length === 0) session.terminal.print(nothingToDo(names.length));
}

/** What a participant has rows in as soon as it has done anything. */
const FIRST_TABLES = {
  payment: 'payment.payments',
  inventory: 'inventory.stock',
  shipping: 'shipping.shipments',
} as const;

/** Participants whose own database is empty while the main one has rows of theirs: they were moved, and their data were not. */
export async function leftBehind(config: Config): Promise<OwnDatabaseName[]> {
  const databases = databasesOf(config);
  const pools = new Pools({ databases, applicationName: 'ferry-migrate', settings: () => ({ max: 1 }) });
  const hasRows = async (database: DatabaseName, table: string) => {
    const { rows } = await pools.of(database).query('select where to_regclass($1) is not null', [table]);
    return rows.length > 0 && (await pools.of(database).query(`select from ${table} limit 1`)).rows.length > 0;
  };
  try {
    const found: OwnDatabaseName[] = [];
    for (const own of OWN_DATABASE_NAMES.filter((name) => databases.has(name))) {
      const table = FIRST_TABLES[own];
      if ((await hasRows('main', table)) && !(await hasRows(own, table))) found.push(own);
    }
    return found;
  } finally {
    await pools.end();
  }
}

/** One after the other: each participant's own has what is its own, the main one the rest. `names` leaves some out. */
export async function migrateDatabases(
  config: Config,
  onStep: (step: DatabaseStep) => void = () => {},
  names?: readonly DatabaseName[],
): Promise<DatabaseStep[]> {
  const databases = databasesOf(config);
  const isApart = new Set<string>(databases.keys());
  const taken: DatabaseStep[] = [];
  for (const [database, settings] of databases) {
    if (names?.includes(database) === false) continue;
    const { own } = settings;
    const sets: readonly MigrationSet[] =
      own === undefined ? migrationSets(config.FERRY_MODULES).filter((set) => !isApart.has(set)) : ['ferry', own];
    const steps = await migrate(settings, sets, (step) => onStep({ ...step, database }));
    taken.push(...steps.map((step) => ({ ...step, database })));
  }
  return taken;
}

function nothingToDo(databases: number): string {
  return databases === 1
    ? 'nothing to do: the database is at this version'
    : `nothing to do: all ${databases} databases are at this version`;
}

function stepText(step: DatabaseStep): string {
  const where = step.database === 'main' ? '' : `${step.database}: `;
  switch (step.kind) {
    case 'applied':
      return `${where}applied ${step.set}/${step.name} (${Math.round(step.milliseconds)} ms)`;
    case 'partitions':
      return `${where}made ${step.created} outbox partitions`;
    case 'publication':
      return `${where}made the publication ${step.name}`;
  }
}
