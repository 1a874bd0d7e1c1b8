/**
 * The embedded stack: Postgres, Kafka and a schema registry as child processes of this one, in one home, and the payment provider of the
 * example. What is configured as external is not started.
 */
import { FerryError } from '../kernel/errors.ts';
import type { ChildExit } from './child.ts';
import { ensureClassArchives } from './class-archives.ts';
import type { Home, StackAddresses } from './home.ts';
import { resolveJavaParts } from './java-parts.ts';
import { kafkaRecipe } from './kafka.ts';
import { EmbeddedPart, type PartName, type PartRecipe } from './part.ts';
import { paymentProviderRecipe, paymentProviderUrl } from './payment-provider.ts';
import { choosePort, freePort, portOf } from './ports.ts';
import { postgresRecipe, postgresUrl, type SqlRunner } from './postgres.ts';
import { registryRecipe, registryUrl } from './registry.ts';

export interface EmbeddedStackOptions {
  /** A home that this process has claimed. */
  readonly home: Home;
  /** Which parts to start. */
  readonly postgres: boolean;
  readonly kafka: boolean;
  readonly registry: boolean;
  /** Who has a database of its own in the Postgres, beside the common one. */
  readonly ownDatabases?: readonly string[];
  /** Of the commerce example; left out: not started. */
  readonly paymentProvider?: boolean;
  /** Ports; 0 (and left out) takes the one used before in this home, else a free one. */
  readonly ports: Readonly<Record<Exclude<PartName, 'payment-provider'>, number>> & {
    readonly 'payment-provider'?: number;
  };
  readonly sql: SqlRunner;
  readonly progress?: (message: string) => void;
  /** Hears of a part that ended though nobody stopped it. */
  readonly onDeath?: (part: EmbeddedPart, exit: ChildExit) => void;
}

export interface EmbeddedStack {
  /** Set for the parts that were started. */
  readonly postgresUrl?: string;
  /** By the names of `ownDatabases`. */
  readonly ownDatabaseUrls?: Readonly<Record<string, string>>;
  readonly kafkaBrokers?: string;
  readonly registryUrl?: string;
  readonly paymentProviderUrl?: string;
  /** A started part, to stop, kill and start again on the same port and data. Throws if it is not embedded. */
  part(name: PartName): EmbeddedPart;
  /** Postgres last, which the registry works with; safe to call twice. */
  stop(): Promise<void>;
}

const DATABASE = 'ferry';
const REGISTRY_DATABASE = 'apicurio';
const ownDatabase = (name: string) => `${DATABASE}_${name}`;

/**
 * Starts what is asked for, as much at once as possible, and resolves when all of it answers. If one part fails the others are
 * stopped. Throws PART_MISSING, PART_UNREACHABLE, PORT_TAKEN, HOME_UNUSABLE.
 */
export async function startEmbeddedStack(options: EmbeddedStackOptions): Promise<EmbeddedStack> {
  const { home, progress = () => {}, onDeath = () => {}, ownDatabases = [] } = options;
  const ports = await choosePorts(options);
  const parts = new Map<PartName, EmbeddedPart>();
  const add = (recipe: PartRecipe) => {
    const part = new EmbeddedPart(recipe, onDeath);
    parts.set(recipe.name, part);
    return part;
  };
  const java = options.kafka || options.registry ? await resolveJavaParts(progress) : undefined;
  if (java !== undefined) await ensureClassArchives(java, progress);
  const postgres = options.postgres ? add(postgresRecipe(home, ports.postgres, options.sql)) : undefined;
  const controllerPort = await freePort();
  const kafka = options.kafka && java ? add(kafkaRecipe(home, ports.kafka, controllerPort, java)) : undefined;
  const storage = options.postgres ? registryStorage(home, ports.postgres) : undefined;
  const registry = options.registry && java ? add(registryRecipe(home, ports.registry, java, storage)) : undefined;
  const provider = options.paymentProvider ? add(paymentProviderRecipe(home, ports['payment-provider'])) : undefined;

  const stop = async () => {
    const users = [...parts.values()].filter((part) => part !== postgres);
    await Promise.all(users.map((part) => part.stop()));
    await postgres?.stop();
  };
  const postgresThenRegistry = async () => {
    await postgres?.start();
    const databases = [DATABASE, REGISTRY_DATABASE, ...ownDatabases.map(ownDatabase)];
    if (postgres !== undefined) await ensureDatabases(home, ports.postgres, databases, options.sql);
    await registry?.start();
  };
  const started = await Promise.allSettled([postgresThenRegistry(), kafka?.start(), provider?.start()]);
  const failure = started.find((result) => result.status === 'rejected');
  if (failure !== undefined) {
    await stop();
    throw failure.reason;
  }

  const addresses: StackAddresses = {
    ...(postgres && { postgresUrl: postgresUrl(home, ports.postgres, DATABASE) }),
    ...(postgres &&
      ownDatabases.length > 0 && {
        ownDatabaseUrls: Object.fromEntries(
          ownDatabases.map((name) => [name, postgresUrl(home, ports.postgres, ownDatabase(name))]),
        ),
      }),
    ...(kafka && { kafkaBrokers: `127.0.0.1:${ports.kafka}` }),
    ...(registry && { registryUrl: registryUrl(ports.registry) }),
    ...(provider && { paymentProviderUrl: paymentProviderUrl(ports['payment-provider']) }),
  };
  home.saveAddresses({ ...home.addresses(), ...addresses });
  return {
    ...addresses,
    part: (name) => {
      const part = parts.get(name);
      if (part === undefined) throw new FerryError('PART_MISSING', `${name} is not embedded in this stack`);
      return part;
    },
    stop,
  };
}

async function choosePorts(options: EmbeddedStackOptions): Promise<Record<PartName, number>> {
  const before = options.home.addresses();
  return {
    postgres: await choosePort('EMBEDDED_POSTGRES_PORT', options.ports.postgres, portOf(before.postgresUrl)),
    kafka: await choosePort('EMBEDDED_KAFKA_PORT', options.ports.kafka, portOf(before.kafkaBrokers)),
    registry: await choosePort('EMBEDDED_REGISTRY_PORT', options.ports.registry, portOf(before.registryUrl)),
    'payment-provider': await choosePort(
      'EMBEDDED_PAYMENT_PROVIDER_PORT',
      options.ports['payment-provider'] ?? 0,
      portOf(before.paymentProviderUrl),
    ),
  };
}

function registryStorage(home: Home, port: number) {
  return {
    host: '127.0.0.1',
    port,
    database: REGISTRY_DATABASE,
    user: 'postgres',
    password: home.secret('postgres'),
  };
}

/** CREATE DATABASE knows no IF NOT EXISTS; nobody else makes databases in a cluster that this process has just started. */
async function ensureDatabases(home: Home, port: number, databases: readonly string[], sql: SqlRunner): Promise<void> {
  const url = postgresUrl(home, port, 'postgres');
  const existing = new Set((await sql(url, 'select datname as name from pg_database')).map(({ name }) => name));
  for (const database of databases) {
    if (!existing.has(database)) await sql(url, `create database ${database}`);
  }
}
