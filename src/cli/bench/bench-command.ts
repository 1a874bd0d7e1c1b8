/**
 * `./ferry bench sagas`: how many fulfilments a second, and how long each takes, on real parts from nothing. Orders come over HTTP and nothing
 * goes wrong with them; at the end the demo's proof is asked, because a rate with an order that is lost or half done is none.
 */
import { cpus, totalmem } from 'node:os';
import { databasesOf } from '../../config/databases.ts';
import { Scope } from '../../kernel/scope.ts';
import { FERRY_VERSION } from '../../kernel/version.ts';
import type { Pool } from '../../postgres/connection.ts';
import { Pools } from '../../postgres/pools.ts';
import { type IntegrityReport, isSound } from '../../reconcile/integrity.ts';
import { type CommerceStack, commerceSession, startCommerce } from '../commerce-stack.ts';
import { placeOrders, type TrafficResult } from '../demo/order-traffic.ts';
import { readCharges } from '../demo/payment-provider.ts';
import { outboxesOf, proveIntegrity } from '../demo/proof.ts';
import { isFulfilled, moduleDatabases, proveSagas, type SagaReport } from '../demo/saga-proof.ts';
import { settle } from '../demo/settle.ts';
import { openEventLog } from '../event-log.ts';
import { EXIT } from '../exit-codes.ts';
import type { CommonOptions, Session } from '../session.ts';
import { onStopSignal } from '../signals.ts';
import { bold, dim, green, plainTable, red } from '../terminal.ts';
import { readSagaFigures, type SagaFigures } from './saga-figures.ts';

export interface BenchOptions extends CommonOptions {
  readonly orders: number;
  readonly clients: number;
  /** Orders a second; left out: as fast as the clients can. */
  readonly rate?: number;
}

interface BenchOutcome {
  readonly figures: SagaFigures;
  readonly integrity: IntegrityReport;
  readonly sagas: SagaReport;
  readonly postgres: string;
}

export async function runBench(outer: Session, options: BenchOptions): Promise<number> {
  const session = commerceSession(outer, options, 'bench', { environment: { COMMERCE_FAULT_PERCENT: '0' } });
  const stop = onStopSignal(() => session.home.killRecorded());
  const scope = new Scope();
  let outcome: BenchOutcome;
  try {
    const stack = await startCommerce(session, scope, stop.signal);
    outcome = await measure(session, options, stack, scope, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return EXIT.failedCheck;
  } finally {
    await session.terminal.step('stopping everything', () => scope.close());
    stop.release();
  }
  if (session.json) session.terminal.printJson(summaryOf(options, outcome));
  else printFigures(session, options, outcome);
  return isProven(options, outcome) ? EXIT.fine : EXIT.failedCheck;
}

async function measure(
  session: Session,
  options: BenchOptions,
  stack: CommerceStack,
  scope: Scope,
  signal: AbortSignal,
): Promise<BenchOutcome> {
  const { terminal } = session;
  const { config } = stack;
  const databases = databasesOf(config);
  const pools = new Pools({ databases, applicationName: 'ferry-bench', settings: () => ({ max: 2 }) });
  scope.defer('the measurement’s connections', () => pools.end());
  const pool = pools.of('main');
  const outboxes = outboxesOf(pools);
  const { accepted } = await place(session, options, stack, signal);
  await settle(terminal, pool, { orders: accepted, outboxes, signal });
  const events = await openEventLog(config);
  scope.defer('the connection to Kafka', () => events.close());
  return terminal.step('events, orders, money and stock counted', async () => ({
    figures: await readSagaFigures(pool),
    integrity: await proveIntegrity(outboxes, events, config),
    sagas: await proveSagas(moduleDatabases(databases, pools), await readCharges(stack.paymentProviderUrl)),
    postgres: await readPostgresVersion(pool),
  }));
}

function place(
  { terminal }: Session,
  { orders, clients, rate }: BenchOptions,
  { url, key }: CommerceStack,
  signal: AbortSignal,
): Promise<TrafficResult> {
  return terminal.step(`${orders} orders over HTTP`, (update) => {
    const onProgress = (count: number) => update(`${count} of ${orders} orders over HTTP from ${clients} clients`);
    const pace = rate === undefined ? {} : { rate };
    return placeOrders({ url, key, orders, clients, ...pace, onlyGood: true, signal, onProgress });
  });
}

async function readPostgresVersion(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ server_version: string }>('show server_version');
  return rows[0]?.server_version ?? 'unknown';
}

/** Whether the figures may be told: every order was fulfilled, and every event of it is in Kafka once and in order. */
function isProven({ orders }: BenchOptions, { integrity, sagas }: BenchOutcome): boolean {
  return isSound(integrity) && isFulfilled(sagas) && sagas.completed === orders;
}

/** The line of `--json`. */
function summaryOf(options: BenchOptions, outcome: BenchOutcome) {
  const { figures, integrity, sagas, postgres } = outcome;
  const { missing, duplicates, outOfOrder, undecodable } = integrity;
  const { completed, stuck, ledgerImbalance, stockMismatch, ordersInLimbo } = sagas;
  return {
    machine: machine(),
    versions: { ferry: FERRY_VERSION, node: process.version, postgres },
    clients: options.clients,
    ordersPerSecondWanted: options.rate ?? null,
    ...figures,
    proven: isProven(options, outcome),
    proof: {
      completed,
      stuck,
      ledgerImbalance,
      stockMismatch,
      ordersInLimbo,
      missing,
      duplicates,
      outOfOrder,
      undecodable,
    },
  };
}

function machine() {
  return { cpus: cpus().length, model: cpus()[0]?.model ?? 'unknown', memoryGiB: Math.round(totalmem() / 2 ** 30) };
}

function printFigures({ terminal }: Session, options: BenchOptions, outcome: BenchOutcome): void {
  const { figures, postgres, sagas, integrity } = outcome;
  const { cpus: cores, model, memoryGiB } = machine();
  const offered = options.rate === undefined ? 'as fast as they come' : `${options.rate} a second`;
  terminal.print(`\n${bold('Fulfilments')}`);
  terminal.print(
    plainTable([
      ['machine', `${cores} × ${model}, ${memoryGiB} GiB; everything runs on it`],
      ['versions', `Ferry ${FERRY_VERSION}, Node ${process.version}, Postgres ${postgres}`],
      ['orders', `${figures.sagas.toLocaleString('en')} from ${options.clients} clients, ${offered}`],
      ['sagas a second', bold(String(figures.sagasPerSecond)), dim(`first start to last end, ${figures.seconds} s`)],
      ['in the steady middle', bold(String(figures.steadySagasPerSecond)), dim('while the middle 80 % ended')],
      ['whole flow, p50', `${figures.flowP50Ms} ms`, dim('from the saga’s start to its end')],
      ['whole flow, p99', `${figures.flowP99Ms} ms`],
      ['events a second', figures.eventsPerSecond.toLocaleString('en'), dim('through outbox and Kafka')],
    ]),
  );
  if (isProven(options, outcome)) {
    terminal.print(`\n${green('✔')} Every order is completed, and every event is in Kafka exactly once and in order.`);
    return;
  }
  terminal.print(`\n${red('✖')} The proof failed, so these figures are none:`);
  for (const [name, value] of Object.entries({ ...sagas, ...integrity })) {
    if (typeof value === 'number') terminal.print(`  ${name} ${value}`);
  }
}
