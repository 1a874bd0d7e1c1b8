/** `./ferry migrate`: brings each database of the configuration to this version. */
import { type DatabaseName, databasesOf } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { type MigrationStep, migrate, migrationSets } from '../postgres/migrate.ts';
import { requireAddress, type Session, sessionConfig } from './session.ts';

/** A step, and the database that it changed. */
export type DatabaseStep = MigrationStep & { readonly database: DatabaseName };

export async function runMigrate(session: Session): Promise<void> {
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  const steps = await migrateDatabases(config, (step) => session.terminal.note(stepText(step)));
  if (session.json) session.terminal.printJson({ steps });
  else if (steps.length === 0) session.terminal.print(nothingToDo(databasesOf(config).size));
}

/** One after the other: each has what is its own, the main one the rest. */
export async function migrateDatabases(
  config: Config,
  onStep: (step: DatabaseStep) => void = () => {},
): Promise<DatabaseStep[]> {
  const databases = databasesOf(config);
  const isApart = new Set<string>(databases.keys());
  const taken: DatabaseStep[] = [];
  for (const [database, settings] of databases) {
    const { own } = settings;
    const sets =
      own === undefined
        ? migrationSets(config.FERRY_MODULES).filter((set) => !isApart.has(set))
        : (['ferry', own] as const);
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
