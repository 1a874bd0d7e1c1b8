/** `./ferry status`: is each part reachable, and how far is the relay. Exit code 3 if a part is not reachable, 1 if the relay is not at work. */
import type { Config } from '../config/variables.ts';
import { coerceError, describeError } from '../kernel/errors.ts';
import { createPool } from '../postgres/connection.ts';
import { createRegistryClient } from '../registry/registry-client.ts';
import { isAtWork } from '../relay/states.ts';
import { openEventLog } from './event-log.ts';
import { EXIT } from './exit-codes.ts';
import { readRelayState } from './readiness.ts';
import { type CheckpointStatus, readCheckpointStatus, readSlotStatus, type SlotStatus } from './relay-status.ts';
import { requireAddress, type Session, sessionConfig } from './session.ts';
import { bold, green, plainTable, red } from './terminal.ts';

export interface PartStatus {
  readonly ok: boolean;
  /** Why it is not. */
  readonly error?: string;
}

export interface Status {
  readonly http: PartStatus & { readonly url: string | null };
  readonly postgres: PartStatus & { readonly url: string | null };
  readonly kafka: PartStatus & { readonly brokers: string | null };
  readonly registry: PartStatus & { readonly url: string | null };
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

export async function runStatus(session: Session): Promise<number> {
  const status = await readStatus(session);
  if (session.json) session.terminal.printJson(status);
  else printStatus(session, status);
  const { http, postgres, kafka, registry, relay } = status;
  if (![http, postgres, kafka, registry].every((part) => part.ok)) return EXIT.partMissing;
  return relay.ok ? EXIT.fine : EXIT.failedCheck;
}

export async function readStatus(session: Session): Promise<Status> {
  const config = sessionConfig(session);
  const httpUrl = session.home.addresses().httpUrl ?? null;
  const [http, slot, kafka, registry] = await Promise.all([
    attempt(() => readRelayState(httpUrl)),
    attempt(() => readDatabase(config)),
    attempt(() => readKafka(config)),
    attempt(async () => createRegistryClient({ url: requireAddress(config, 'SCHEMA_REGISTRY_URL') }).subjects()),
  ]);
  const state = http.value ?? slot.value?.state ?? 'unknown';
  return {
    http: { ...partStatus(http), url: httpUrl },
    postgres: { ...partStatus(slot), url: maskUrl(config.DATABASE_URL) },
    kafka: { ...partStatus(kafka), brokers: config.KAFKA_BROKERS ?? null },
    registry: { ...partStatus(registry), url: maskUrl(config.SCHEMA_REGISTRY_URL) },
    relay: {
      ok: isAtWork(state),
      state,
      slot: slot.value?.slot ?? null,
      lagBytes: slot.value?.lagBytes ?? null,
      lagSeconds: slot.value?.lagSeconds ?? null,
      checkpointLsn: kafka.value?.lsn ?? null,
      confirmedLsn: slot.value?.confirmedLsn ?? null,
      lastPublishedEventId: kafka.value?.lastEventId ?? null,
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

async function readDatabase(config: Config): Promise<SlotStatus> {
  requireAddress(config, 'DATABASE_URL');
  const pool = createPool(config, 'ferry-status', { max: 1, statementTimeoutMs: 10_000 });
  try {
    return await readSlotStatus(pool, config.RELAY_NAME);
  } finally {
    await pool.end();
  }
}

async function readKafka(config: Config): Promise<CheckpointStatus | null> {
  const events = await openEventLog(config);
  try {
    return await readCheckpointStatus(events, config);
  } finally {
    await events.close();
  }
}

function maskUrl(url: string | undefined): string | null {
  return url?.replace(/:[^:@/]+@/, ':***@') ?? null;
}

function printStatus({ terminal, home }: Session, status: Status): void {
  const { http, postgres, kafka, registry, relay, counts } = status;
  const part = (name: string, address: string | null, { ok, error }: PartStatus) => [
    ok ? green('✔') : red('✖'),
    bold(name),
    address ?? '(no address)',
    ok ? '' : red(error ?? ''),
  ];
  terminal.print(
    plainTable([
      part('HTTP API', http.url, http),
      part('Postgres', postgres.url, postgres),
      part('Kafka', kafka.brokers, kafka),
      part('registry', registry.url, registry),
      [relay.ok ? green('✔') : red('✖'), bold('relay'), relay.state, relay.slot === null ? '' : `slot ${relay.slot}`],
    ]),
  );
  terminal.print();
  const number = (value: number | null, unit = '') => (value === null ? '?' : `${value.toLocaleString('en')}${unit}`);
  terminal.print(
    plainTable([
      ['slot lag', `${number(relay.lagBytes, ' bytes')}, ${number(relay.lagSeconds, ' s')}`],
      ['checkpoint LSN', relay.checkpointLsn ?? '?'],
      ['confirmed LSN', relay.confirmedLsn ?? '?'],
      ['last published event', relay.lastPublishedEventId ?? '(none yet)'],
      [
        'outbox',
        `${number(counts.outboxRows)} rows, ${number(counts.pending)} pending, ${number(counts.deadLettered)} dead-lettered`,
      ],
      ...status.longTransactions.map((who) => ['holds back WAL', who]),
      ['home', home.directory],
    ]),
  );
}
