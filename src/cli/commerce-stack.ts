/**
 * The commerce example as a whole, from nothing, in a home of its own: the embedded parts, and every role as a process of its own. The demo
 * and the measurements run on it.
 */
import { join } from 'node:path';
import { OWN_DATABASE_NAMES } from '../config/databases.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/variables.ts';
import type { EmbeddedPart } from '../embedded/part.ts';
import { freePort } from '../embedded/ports.ts';
import type { Scope } from '../kernel/scope.ts';
import { ensureDevelopmentKey, prepareParts } from './development.ts';
import { startEmbeddedParts } from './embedded-parts.ts';
import { RoleProcess } from './role-process.ts';
import { type CommonOptions, type Environment, openSession, partsEnvironment, type Session } from './session.ts';

/** `apart`: payment, inventory and shipping have a database of their own each. */
export type DatabaseLayout = 'one' | 'apart';

export interface CommerceStack {
  readonly config: Config;
  /** The API's address, the same after a crash. */
  readonly url: string;
  /** An API key with every role. */
  readonly key: string;
  readonly relay: RoleProcess;
  /** The API and the consumers, by name. */
  readonly others: ReadonlyMap<string, RoleProcess>;
  readonly paymentProvider: EmbeddedPart;
  readonly paymentProviderUrl: string | undefined;
  /** Stops the roles and leaves the parts: for who only counts from here on. The scope does without being asked. */
  stopRoles(): Promise<unknown>;
}

/** The processes besides relay and API: the orchestrator with the projection, and the participants. */
const CONSUMERS = { orchestrator: 'sagas,projection', participants: 'order,payment,inventory,shipping' } as const;

/**
 * Throughput before latency: all processes and the clients share one machine, and a Kafka transaction costs the same, however few events it
 * has, and more with each partition that it touches.
 */
const SHARED_MACHINE: Environment = { RELAY_BATCH_LINGER_MS: '100', TOPIC_PARTITIONS: '3' };

/**
 * A session whose home is `name` within the outer one's, so that it neither meets nor harms what `up` keeps; its parts are always the
 * embedded ones. `environment` is what is asked for beyond that; what is set by hand wins over `defaults`.
 */
export function commerceSession(
  outer: Session,
  options: CommonOptions,
  name: string,
  { defaults = {}, environment = {} }: { readonly defaults?: Environment; readonly environment?: Environment },
): Session {
  const own: Environment = {
    ...SHARED_MACHINE,
    ...defaults,
    ...outer.environment,
    ...environment,
    NODE_OPTIONS: `--v8-pool-size=1 ${outer.environment.NODE_OPTIONS ?? ''}`, // compiler and collector threads, of each of the processes
    DATABASE_URL: undefined,
    PAYMENT_DATABASE_URL: undefined,
    INVENTORY_DATABASE_URL: undefined,
    SHIPPING_DATABASE_URL: undefined,
    KAFKA_BROKERS: undefined,
    SCHEMA_REGISTRY_URL: undefined,
    PAYMENT_PROVIDER_URL: undefined,
    FERRY_HOME: undefined,
    FERRY_MODULES: 'commerce',
    HTTP_PORT: '0',
    RELAY_STATUS_INTERVAL_MS: '200', // what is confirmed shows how soon a killed relay is back
    RELAY_HEARTBEAT_INTERVAL_MS: '500', // by it one knows that all is published, which is waited for in the end
  };
  return openSession(own, { ...options, home: join(outer.home.directory, name) });
}

/** Empties the home and starts everything in it; `scope` stops it. Throws PART_UNREACHABLE with the end of a log, or the signal's reason. */
export async function startCommerce(
  session: Session,
  scope: Scope,
  signal: AbortSignal,
  layout: DatabaseLayout = 'one',
): Promise<CommerceStack> {
  const { home, terminal } = session;
  await home.claim();
  scope.defer('the home', () => home.release());
  home.deleteData();
  const parts = await terminal.step('Postgres 18, Kafka 4.1 and the schema registry, on free ports', (update) =>
    startEmbeddedParts(session, { progress: update, ownDatabases: ownDatabasesOf(layout) }, 'commerce'),
  );
  scope.defer('the embedded parts', () => parts.stop());
  const environment: Environment = { ...partsEnvironment(session), LOG_FORMAT: 'json' };
  const config = loadConfig(environment);
  const migrated = layout === 'one' ? 'database migrated' : 'a database for each participant, migrated';
  await terminal.step(`${migrated}, event schemas registered`, () => prepareParts(environment));
  const key = await ensureDevelopmentKey(session, environment);
  signal.throwIfAborted();
  const roles = await terminal.step('api, relay, ops, orchestrator and participants, each a process of its own', () =>
    startRoles(session, environment, scope),
  );
  const { paymentProviderUrl } = parts;
  return { config, key, ...roles, paymentProvider: parts.part('payment-provider'), paymentProviderUrl };
}

export function ownDatabasesOf(layout: DatabaseLayout): readonly string[] {
  return layout === 'apart' ? OWN_DATABASE_NAMES : [];
}

async function startRoles(
  session: Session,
  environment: Environment,
  scope: Scope,
): Promise<Pick<CommerceStack, 'url' | 'relay' | 'others' | 'stopRoles'>> {
  const start = async (name: string, roles: string, more: Environment = {}) => {
    const role = await RoleProcess.start({ home: session.home, name, roles, environment: { ...environment, ...more } });
    scope.defer(name, () => role.stop());
    return [name, role] as const;
  };
  const port = String(await freePort()); // the same after a crash: the clients do not look for another
  const [[, relay], api, ...others] = await Promise.all([
    start('relay', 'relay'),
    start('api', 'api', { HTTP_PORT: port }),
    start('ops', 'ops'),
    ...Object.entries(CONSUMERS).map(([name, roles]) => start(name, roles)),
  ]);
  // all at once, which is quicker; one by one only those that had started when another one did not
  const all = [relay, api[1], ...others.map(([, role]) => role)];
  const stopRoles = () => Promise.all(all.map((role) => role.stop()));
  scope.defer('the roles', stopRoles);
  return { relay, others: new Map([api, ...others]), url: (await api[1].ready()) ?? '', stopRoles };
}
