/** Ferry's tables in a service's own database. */
import { loadConfig } from '../config/load.ts';
import type { VariableName } from '../config/variables.ts';
import { type MigrationStep, migrate as migrateSets } from '../postgres/migrate.ts';

/**
 * Brings the schema `ferry` of DATABASE_URL to this version: outbox, inbox, their partitions of the coming days, and the publication. Safe to
 * call at every start and by several instances at once; resolves with what it changed. Throws CONFIG_INVALID, MIGRATION_CHANGED,
 * PART_UNREACHABLE.
 */
export function migrate(
  environment: Readonly<Partial<Record<VariableName, string>>> = process.env,
): Promise<MigrationStep[]> {
  return migrateSets(loadConfig(environment), ['ferry']);
}
