/**
 * `./ferry status`: is each part reachable, and how far is the relay of each database. Exit code 3 if a part is not reachable, 1 if a relay is
 * not at work.
 */
import { type DatabaseConfig, type DatabaseName, type Databases, databasesOf } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import { coerceError, describeError } from '../kernel/errors.ts';
import { createPool } from '../postgres/connection.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { isAtWork } from '../relay/states.ts';
import { openEventLog } from './event-log.ts';
import { EXIT } from './exit-codes.ts';
import { type RelayStates, readRelayStates } from './readiness.ts';
import { type CheckpointStatus, readCheckpointStatus, readSlotStatus, type SlotStatus } from './relay-status.ts';
import { requireAddress, type Session, sessionConfig } from './session.ts';
import { bold, green, plainTable, red } from './terminal.ts';

export interface PartStatus {
  readonly ok: boolean;
  /** Why it is not. */
  readonly error?: string;
}

export interface DatabaseStatus {
  readonly postgres: PartStatus & { readonly url: string | null };
  readonly relay: {
    readonly ok: boolean;
    readonly state: string;
    readonly slot: string | null;
    readonly lagBytes: number | null;
    readonly lagSeconds: number | null;
    readonly checkpointLsn: string | null;
    readonly confirmedLsn: string | null;
    readonly lastPublishedEventId: string | null;
  };
  readonly counts: {
    readonly outboxRows: number | null;
    readonly pending: number | null;
    readonly deadLettered: number | null;
  };
  /** Open for more than a minute: WAL is kept for them. */
  readonly longTransactions: readonly string[];
}

/** Its own facts are the main database's. */
export interface Status extends DatabaseStatus {
  readonly http: PartStatus & { readonly url: string | null };
  readonly kafka: PartStatus & { readonly brokers: string | null };
  readonly registry: PartStatus & { readonly url: string | null };
  /** Of participants that have a database of their own, by name. */
  readonly databases: Readonly<Record<string, DatabaseStatus>>;
}

export async function runStatus(session: Session): Promise<number> {
  const status = await readStatus(session);
  if (session.json) session.terminal.printJson(status);
  else printStatus(session, status);
  const { http, kafka, registry } = status;
  const databases = [status, ...Object.values(status.databases)];
  if (![http, kafka, registry, ...databases.map(({ postgres }) => postgres)].every((part) => part.ok)) {
    return EXIT.partMissing;
  }
  return databases.every(({ relay }) => relay.ok) ? EXIT.fine : EXIT.failedCheck;
}

export async function readStatus(session: Session): Promise<Status> {
  const config = sessionConfig(session);
  const databases = databasesOf(config);
  const httpUrl = session.home.addresses().httpUrl ?? null;
  const [http, kafka, registry] = await Promise.all([
    attempt(() => readRelayStates(httpUrl)),
    attempt(() => readCheckpoints(config, databases)),
    attempt(async () => createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') }).subjects()),
  ]);
  const statuses = await Promise.all(
    [...databases].map(async ([name, database]) => {
      const checkpoint = kafka.value?.get(name) ?? null;
      return [name, await readDatabase(name, database, http.value, checkpoint)] as const;
    }),
  );
  const [[, main] = [], ...own] = statuses;
  if (main === undefined) throw new Error('the main database is missing');
  return {
    http: { ...partStatus(http), url: httpUrl },
    kafka: { ...partStatus(kafka), brokers: config.KAFKA_BROKERS ?? null },
    registry: { ...partStatus(registry), url: maskUrl(config.SCHEMA_REGISTRY_URL) },
    ...main,
    databases: Object.fromEntries(own),
  };
}

async function readDatabase(
  name: DatabaseName,
  config: DatabaseConfig,
  states: RelayStates | undefined,
  checkpoint: CheckpointStatus | null,
): Promise<DatabaseStatus> {
  const slot = await attempt(() => readOutbox(name, config));
  const state = states?.(name) ?? slot.value?.state ?? 'unknown';
  return {
    postgres: { ...partStatus(slot), url: maskUrl(config.DATABASE_URL) },
    relay: {
      ok: isAtWork(state),
      state,
      slot: slot.value?.slot ?? null,
      lagBytes: slot.value?.lagBytes ?? null,
      lagSeconds: slot.value?.lagSeconds ?? null,
      checkpointLsn: checkpoint?.lsn ?? null,
      confirmedLsn: slot.value?.confirmedLsn ?? null,
      lastPublishedEventId: checkpoint?.lastEventId ?? null,
    },
    counts: {
      outboxRows: slot.value?.outboxRows ?? null,
      pending: slot.value?.pending ?? null,
      deadLettered: slot.value?.deadLettered ?? null,
    },
    longTransactions: slot.value?.longTransactions ?? [],
  };
}

interface Attempt<T> {
  readonly value?: T;
  readonly error?: Error;
}

async function attempt<T>(work: () => Promise<T>): Promise<Attempt<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: coerceError(error) };
  }
}

function partStatus({ error }: Attempt<unknown>): PartStatus {
  return error === undefined ? { ok: true } : { ok: false, error: describeError(error) };
}

async function readOutbox(name: DatabaseName, config: DatabaseConfig): Promise<SlotStatus> {
  if (name === 'main') requireAddress(config, 'DATABASE_URL');
  const pool = createPool(config, 'ferry-status', { max: 1, statementTimeoutMs: 10_000 });
  try {
    return await readSlotStatus(pool, config.RELAY_NAME);
  } finally {
    await pool.end();
  }
}

/** By database; without those of relays that never published. */
async function readCheckpoints(config: Config, databases: Databases): Promise<Map<DatabaseName, CheckpointStatus>> {
  const events = await openEventLog(config);
  try {
    const checkpoints = new Map<DatabaseName, CheckpointStatus>();
    for (const [name, database] of databases) {
      const checkpoint = await readCheckpointStatus(events, database);
      if (checkpoint !== null) checkpoints.set(name, checkpoint);
    }
    return checkpoints;
  } finally {
    await events.close();
  }
}

function maskUrl(url: string | undefined): string | null {
  return url?.replace(/:[^:@/]+@/, ':***@') ?? null;
}

function printStatus({ terminal, home }: Session, status: Status): void {
  const { http, kafka, registry } = status;
  const own = Object.entries(status.databases);
  const part = (name: string, address: string | null, { ok, error }: PartStatus) => [
    ok ? green('✔') : red('✖'),
    bold(name),
    address ?? '(no address)',
    ok ? '' : red(error ?? ''),
  ];
  const relayPart = (name: string, { ok, state, slot }: DatabaseStatus['relay']) => [
    ok ? green('✔') : red('✖'),
    bold(name),
    state,
    slot === null ? '' : `slot ${slot}`,
  ];
  terminal.print(
    plainTable([
      part('HTTP API', http.url, http),
      part('Postgres', status.postgres.url, status.postgres),
      ...own.map(([name, { postgres }]) => part(`Postgres of ${name}`, postgres.url, postgres)),
      part('Kafka', kafka.brokers, kafka),
      part('registry', registry.url, registry),
      relayPart('relay', status.relay),
      ...own.map(([name, { relay }]) => relayPart(`relay of ${name}`, relay)),
    ]),
  );
  terminal.print();
  terminal.print(plainTable([...outboxRows(status), ['home', home.directory]]));
  for (const [name, database] of own) {
    terminal.print(`\n  ${bold(name)}`);
    terminal.print(plainTable(outboxRows(database)));
  }
}

function outboxRows({ relay, counts, longTransactions }: DatabaseStatus): string[][] {
  const number = (value: number | null, unit = '') => (value === null ? '?' : `${value.toLocaleString('en')}${unit}`);
  return [
    ['slot lag', `${number(relay.lagBytes, ' bytes')}, ${number(relay.lagSeconds, ' s')}`],
    ['checkpoint LSN', relay.checkpointLsn ?? '?'],
    ['confirmed LSN', relay.confirmedLsn ?? '?'],
    ['last published event', relay.lastPublishedEventId ?? '(none yet)'],
    [
      'outbox',
      `${number(counts.outboxRows)} rows, ${number(counts.pending)} pending, ${number(counts.deadLettered)} dead-lettered`,
    ],
    ...longTransactions.map((who) => ['holds back WAL', who]),
  ];
}
