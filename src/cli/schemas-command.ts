/** `./ferry schemas check | push | list`: the files of SCHEMAS_DIR against the registry. */

import type { Config } from '../config/variables.ts';
import { topicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { readSchemaFiles } from '../registry/schema-files.ts';
import {
  checkSchemas,
  describeSchemaReport,
  listSchemas,
  pushSchemas,
  type SchemaContext,
} from '../registry/schema-push.ts';
import { EXIT } from './exit-codes.ts';
import { type CommonOptions, requireAddress, type Session, sessionConfig } from './session.ts';
import { plainTable } from './terminal.ts';

/** `action` is check, push or list. Exit code 1 when something is incompatible; then nothing was changed. */
export async function runSchemas(
  session: Session,
  _options: CommonOptions,
  [action]: readonly string[],
): Promise<number> {
  const context = schemaContext(sessionConfig(session));
  if (action === 'check') return check(session, context);
  if (action === 'push') return push(session, context);
  return list(session, context);
}

/** Registers what is new. Throws SCHEMA_INCOMPATIBLE with what breaks and how to mend it. */
export async function pushAllSchemas(config: Config): Promise<void> {
  const report = await pushSchemas(schemaContext(config));
  if (report.ok) return;
  throw new FerryError('SCHEMA_INCOMPATIBLE', report.schemas.flatMap(describeSchemaReport).join('\n'));
}

function schemaContext(config: Config): SchemaContext {
  return {
    client: createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') }),
    files: readSchemaFiles(config.SCHEMAS_DIR),
    routes: topicRoutes(config),
    naming: config.SUBJECT_NAMING,
  };
}

async function check({ terminal, json }: Session, context: SchemaContext): Promise<number> {
  const schemas = await checkSchemas(context);
  if (json) terminal.printJson({ schemas });
  else for (const line of schemas.flatMap(describeSchemaReport)) terminal.print(line);
  return schemas.some(({ state }) => state === 'incompatible') ? EXIT.failedCheck : EXIT.fine;
}

async function push({ terminal, json }: Session, context: SchemaContext): Promise<number> {
  const report = await pushSchemas(context);
  if (json) terminal.printJson(report);
  else if (!report.ok) for (const line of report.schemas.flatMap(describeSchemaReport)) terminal.print(line);
  else if (report.changes.length === 0) terminal.print('nothing to do: the registry has every schema');
  else for (const change of report.changes) terminal.print(change);
  return report.ok ? EXIT.fine : EXIT.failedCheck;
}

async function list({ terminal, json }: Session, context: SchemaContext): Promise<number> {
  const subjects = await listSchemas(context);
  if (json) {
    terminal.printJson({ subjects });
    return EXIT.fine;
  }
  const rows = subjects.map(({ subject, level, versions, file }) => [
    subject,
    level ?? 'no level',
    versions.map(({ version, id }) => `v${version} (id ${id})`).join(', '),
    file ?? '',
  ]);
  terminal.print(plainTable(rows, ['subject', 'compatibility', 'versions', 'file']));
  return EXIT.fine;
}
