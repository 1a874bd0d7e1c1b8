/** `./ferry migrate`: brings the database to this version. */
import type { Config } from '../config/variables.ts';
import { type MigrationStep, migrate, migrationSets } from '../postgres/migrate.ts';
import { requireAddress, type Session, sessionConfig } from './session.ts';

export async function runMigrate(session: Session): Promise<void> {
  const config = sessionConfig(session);
  requireAddress(config, 'DATABASE_URL');
  const steps = await migrateDatabase(config, (step) => session.terminal.note(stepText(step)));
  if (session.json) session.terminal.printJson({ steps });
  else if (steps.length === 0) session.terminal.print('nothing to do: the database is at this version');
}

export function migrateDatabase(config: Config, onStep?: (step: MigrationStep) => void): Promise<MigrationStep[]> {
  return migrate(config, migrationSets(config.FERRY_MODULES), onStep);
}

function stepText(step: MigrationStep): string {
  switch (step.kind) {
    case 'applied':
      return `applied ${step.set}/${step.name} (${Math.round(step.milliseconds)} ms)`;
    case 'partitions':
      return `made ${step.created} outbox partitions`;
    case 'publication':
      return `made the publication ${step.name}`;
  }
}
