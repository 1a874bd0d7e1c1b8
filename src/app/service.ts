/**
 * The composition root: the one place that knows all modules. Makes what the configured roles need, wires the ports, starts them, and
 * stops them in reverse.
 */
import type { RunningService } from '../cli/service.ts';
import { databasesOf } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { CONSUMER_ROLES } from '../domain/commerce/roles.ts';
import { subjectOf, topicRoutes } from '../events/routes.ts';
import { never } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import { Scope } from '../kernel/scope.ts';
import { databasesInUse, parseRoles, relaysOf } from '../ops/roles.ts';
import { keepPartitions } from '../postgres/partitions.ts';
import { Pools } from '../postgres/pools.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { readSchemaFiles } from '../registry/schema-files.ts';
import { type RefreshOutcome, SchemaStore } from '../registry/schema-store.ts';
import { startTelemetry, type Telemetry } from '../telemetry/telemetry.ts';
import { serveHttp } from './listeners.ts';
import type { Parts } from './parts.ts';
import type { Relays } from './relays.ts';

/**
 * Starts the roles of FERRY_ROLES; resolves when they are up. The code of a role is loaded where it runs: loading is most of what a process does
 * until it is ready, and so of a crash's length.
 */
export async function startService(config: Config): Promise<RunningService> {
  const roles = parseRoles(config.FERRY_ROLES);
  const scope = new Scope();
  try {
    const databases = databasesOf(config);
    const inUse = databasesInUse(roles, databases);
    const telemetry = await startTelemetry(config, { role: [...roles].join(',') });
    scope.defer('telemetry', () => telemetry.shutdown());
    const onIdleError = (err: Error) => telemetry.logger.warn({ err }, 'an idle connection to Postgres broke');
    const pools = new Pools({ databases, applicationName: 'ferry', settings: () => ({ onIdleError }) });
    scope.defer('Postgres pools', () => pools.end());
    const parts: Parts = {
      config,
      roles,
      databases,
      telemetry,
      routes: topicRoutes(config),
      store: schemaStore(config, telemetry),
      pools,
      scope,
    };
    if ([...roles].some((role) => role !== 'ops')) void preloadSchemas(parts); // keepers see few events, and ask for what these need
    for (const database of inUse) {
      const warn = (err: unknown) => telemetry.logger.warn({ err, database }, 'the outbox has no new partitions');
      scope.defer(`partitions of ${database}`, keepPartitions(pools.of(database), warn));
    }
    const finished: Promise<void>[] = [];
    const relayed = relaysOf(roles, databases);
    const relays: Relays =
      relayed.length > 0 ? (await import('./relays.ts')).startRelays(parts, relayed, finished) : new Map();
    if (CONSUMER_ROLES.some((role) => roles.has(role)))
      (await import('./consumers.ts')).startConsumers(parts, finished);
    if (roles.has('ops')) (await import('./keepers.ts')).startKeepers(parts);
    const httpUrl = await serveHttp(parts, inUse, relays);
    // With another role in the process, a relay that refuses must not take that role down: readiness and the log tell of it.
    const alone = roles.size === 1;
    return { httpUrl, finished: alone ? Promise.race([...finished, never()]) : never(), stop: () => scope.close() };
  } catch (error) {
    await scope.close().catch(() => {});
    throw error;
  }
}

function schemaStore(config: Config, { metrics }: Telemetry): SchemaStore {
  const refreshed = (outcome: RefreshOutcome) => metrics.registryRequestsTotal.add(1, { outcome });
  const client = createRegistryClient({ url: requireSetting(config, 'SCHEMA_REGISTRY_URL') });
  return new SchemaStore(client, { metrics: { refreshed } });
}

/** What is known before the registry goes away outlives its absence, so all of our own schemas are asked for at once. */
async function preloadSchemas({ config, telemetry, routes, store }: Parts): Promise<void> {
  try {
    const files = readSchemaFiles(config.SCHEMAS_DIR);
    await store.preload(
      files.map((file) => subjectOf(config.SUBJECT_NAMING, routes.topicOf(file.aggregateType), file.tree.name)),
    );
  } catch (err) {
    telemetry.logger.warn({ err }, 'the schemas are not known yet; each is asked for when an event needs it');
  }
}

function requireSetting(config: Config, name: 'SCHEMA_REGISTRY_URL'): string {
  const value = config[name];
  if (value === undefined)
    throw new FerryError('CONFIG_INVALID', `${name} is not set, and no embedded part runs in this home`);
  return value;
}
