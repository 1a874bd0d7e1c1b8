/**
 * How fast the relay drains a backlog: fills the outbox while the relay is away, starts the relay as a process of its own, and takes the
 * time until Postgres has the whole backlog confirmed, process start included. Then the usual count: a rate with a lost event is none.
 *
 *   node bench/drain.ts [rows] [events per transaction]      (defaults: 300,000 and 1)
 */
import { cpus, totalmem } from 'node:os';
import { pushAllSchemas } from '../src/cli/schemas-command.ts';
import { loadConfig } from '../src/config/load.ts';
import { FERRY_VERSION } from '../src/kernel/version.ts';
import { migrate } from '../src/postgres/migrate.ts';
import { FerryProcess } from '../test/support/processes.ts';
import { openProof, type Proof } from '../test/support/proof.ts';
import { waitUntil } from '../test/support/signals.ts';
import { startTestStack } from '../test/support/stack.ts';
import { fillOutbox } from './workload.ts';

const rows = Number(process.argv[2] ?? 300_000);
const eventsPerTransaction = Number(process.argv[3] ?? 1);
const DEADLINE_MS = 300_000;

const stack = await startTestStack();
try {
  const environment = {
    DATABASE_URL: stack.addresses.postgresUrl,
    KAFKA_BROKERS: stack.addresses.kafkaBrokers,
    SCHEMA_REGISTRY_URL: stack.addresses.registryUrl,
    LOG_LEVEL: 'info',
    RELAY_STATUS_INTERVAL_MS: '100', // how exact the end is seen
  };
  const config = loadConfig(environment);
  await migrate(config, ['ferry']);
  await pushAllSchemas(config);
  const proof = await openProof(config);
  const relay = new FerryProcess({ roles: 'relay', env: environment });
  try {
    await measure(relay, proof);
  } finally {
    await relay.stop();
    await proof.close();
  }
} finally {
  await stack.close();
}

async function measure(relay: FerryProcess, proof: Proof): Promise<void> {
  relay.start(); // makes the slot
  await relay.waitForLog('streaming', ({ to }) => to === 'streaming');
  await relay.stop();
  const filled = await fillOutbox(stack.addresses.postgresUrl, rows, eventsPerTransaction);

  const { end } = await one<{ end: string }>(proof, 'select pg_current_wal_flush_lsn()::text as end');
  const startedAt = performance.now();
  relay.start();
  await relay.waitForLog('streaming', ({ to }) => to === 'streaming');
  const readyMs = performance.now() - startedAt;
  const isDrained = async () =>
    (
      await one<{ done: boolean }>(
        proof,
        'select bool_and(confirmed_flush_lsn >= $1) as done from pg_replication_slots',
        [end],
      )
    ).done;
  await waitUntil('the backlog being confirmed', isDrained, { deadlineMs: DEADLINE_MS });
  const seconds = (performance.now() - startedAt) / 1_000;
  const peakMemoryBytes = relay.peakMemoryBytes();
  const report = await proof.assertSound({ rows });

  const { version } = await one<{ version: string }>(proof, "select current_setting('server_version') as version");
  console.log(
    JSON.stringify(
      {
        machine: { cpus: cpus().length, model: cpus()[0]?.model, memoryGiB: Math.round(totalmem() / 2 ** 30) },
        versions: { ferry: FERRY_VERSION, node: process.version, postgres: version },
        rows,
        eventsPerTransaction,
        payloadBytes: filled.averagePayloadBytes,
        fillPerSecond: Math.round(rows / filled.seconds),
        drainSeconds: Number(seconds.toFixed(2)),
        startMs: Math.round(readyMs),
        drainPerSecond: Math.round(rows / seconds),
        drainPerSecondOnceStreaming: Math.round(rows / (seconds - readyMs / 1_000)),
        peakMemoryMiB: peakMemoryBytes === null ? null : Math.round(peakMemoryBytes / 2 ** 20),
        missing: report.missing,
        duplicates: report.duplicates,
        outOfOrder: report.outOfOrder,
        undecodable: report.undecodable,
      },
      null,
      2,
    ),
  );
}

async function one<R extends object>(proof: Proof, text: string, values: unknown[] = []): Promise<R> {
  const result = await proof.pool.query<R>(text, values);
  const row = result.rows[0];
  if (row === undefined) throw new Error('the query gave no row');
  return row;
}
