/**
 * `./ferry demo`: the whole of Ferry on real parts, from nothing: orders over HTTP and their fulfilment, with failures put in and every process
 * killed in mid-flow; and the proof that every committed event is in Kafka once and in order, and every order completed or wholly undone.
 */
import { join } from 'node:path';
import { loadConfig } from '../../config/load.ts';
import type { Config } from '../../config/variables.ts';
import type { EmbeddedPart } from '../../embedded/part.ts';
import { freePort } from '../../embedded/ports.ts';
import { Scope } from '../../kernel/scope.ts';
import { createPool, type Pool } from '../../postgres/connection.ts';
import { isSound } from '../../reconcile/integrity.ts';
import { detach } from '../detach.ts';
import { ensureDevelopmentKey, prepareParts } from '../development.ts';
import { endStack } from '../down-command.ts';
import { startEmbeddedParts } from '../embedded-parts.ts';
import { openEventLog } from '../event-log.ts';
import { EXIT } from '../exit-codes.ts';
import { readSlotState } from '../relay-status.ts';
import { RoleProcess } from '../role-process.ts';
import { type Environment, openSession, partsEnvironment, type Session } from '../session.ts';
import { onStopSignal, type StopSignal } from '../signals.ts';
import { killOthers, killRelay, type Victim } from './killers.ts';
import { placeOrders, type TrafficResult } from './order-traffic.ts';
import type { DemoOptions, DemoOutcome } from './outcome.ts';
import { injectFailures, readCharges } from './payment-provider.ts';
import { proveIntegrity, traceEvent, waitForQuiet } from './proof.ts';
import { printReport, summaryOf } from './report.ts';
import { isFulfilled, proveSagas, waitForSagas } from './saga-proof.ts';

const CLIENTS = 8;
const QUIET_TIMEOUT_MS = 60_000;
const SAGAS_TIMEOUT_MS = 240_000;
/** The processes besides relay and API: the orchestrator with the projection, and the participants. */
const CONSUMERS = { orchestrator: 'sagas,projection', participants: 'order,payment,inventory,shipping' } as const;

/** A home of its own, so that it neither meets nor harms what `up` keeps; its parts are always the embedded ones. */
function demoSession(session: Session, options: DemoOptions): Session {
  const environment: Environment = {
    CONSUMER_SESSION_TIMEOUT_MS: '6000', // the shortest that brokers allow: a killed consumer's partitions are given away then
    PAYMENT_PROVIDER_TIMEOUT_MS: '500',
    COMMERCE_FAULT_PERCENT: String(Math.round(options.failureRate * 100)),
    ...session.environment,
    DATABASE_URL: undefined,
    KAFKA_BROKERS: undefined,
    SCHEMA_REGISTRY_URL: undefined,
    PAYMENT_PROVIDER_URL: undefined,
    FERRY_HOME: undefined,
    FERRY_MODULES: 'commerce',
    HTTP_PORT: '0',
    RELAY_STATUS_INTERVAL_MS: '200', // what is confirmed shows how soon a killed relay is back
  };
  return openSession(environment, { ...options, home: options.home ?? join(session.home.directory, 'demo') });
}

export async function runDemo(outer: Session, options: DemoOptions): Promise<number> {
  const session = demoSession(outer, options);
  const stop = onStopSignal(() => session.home.killRecorded());
  const scope = new Scope();
  let outcome: DemoOutcome;
  try {
    await endStack(session.home); // one that an earlier `--keep` left
    outcome = await runOrders(session, options, scope, stop);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return EXIT.failedCheck;
  } finally {
    await session.terminal.step('stopping everything', () => scope.close());
    stop.release();
  }
  if (options.keep === true) await detach(session, []);
  printReport(session, options, outcome);
  if (session.json) session.terminal.printJson(summaryOf(outcome));
  return isSound(outcome.integrity) && isFulfilled(outcome.sagas) ? EXIT.fine : EXIT.failedCheck;
}

async function runOrders(session: Session, options: DemoOptions, scope: Scope, stop: StopSignal): Promise<DemoOutcome> {
  const startedAt = performance.now();
  const { home, terminal } = session;
  await home.claim();
  scope.defer('the home', () => home.release());
  home.deleteData();
  const stack = await terminal.step('Postgres 18, Kafka 4.3 and the schema registry, on free ports', (update) =>
    startEmbeddedParts(session, { progress: update }, 'commerce'),
  );
  scope.defer('the embedded parts', () => stack.stop());
  const environment: Environment = {
    ...partsEnvironment(session),
    LOG_FORMAT: 'json',
  };
  const config = loadConfig(environment);
  await terminal.step('database migrated, event schemas registered', () => prepareParts(environment));
  const key = await ensureDevelopmentKey(session, environment);
  stop.signal.throwIfAborted();

  const roles = await terminal.step('api, relay, orchestrator and participants, each a process of its own', () =>
    startRoles(session, environment, scope),
  );
  await injectFailures(stack.paymentProviderUrl, options.failureRate);
  const pool = createPool(config, 'ferry-demo', { max: 4 });
  scope.defer('the demo’s connections', () => pool.end());
  const victims = [...roles.others, victimOf(stack.part('payment-provider'))];
  const parts = { relay: roles.relay, victims, pool, url: roles.url, key, relayName: config.RELAY_NAME };
  const done = await runTraffic(session, options, parts, stop);
  stop.signal.throwIfAborted();
  await settle(session, pool, config, done.traffic, stop);
  const events = await openEventLog(config);
  scope.defer('the connection to Kafka', () => events.close());
  const integrity = await terminal.step('outbox counted against Kafka under read_committed, every value decoded', () =>
    proveIntegrity(pool, events, config),
  );
  const sagas = await terminal.step('orders, money and stock counted against each other', async () =>
    proveSagas(pool, await readCharges(stack.paymentProviderUrl)),
  );
  const example = done.traffic.placedEvents[Math.floor(done.traffic.placedEvents.length / 2)];
  const path = example === undefined ? null : await traceEvent(pool, events, config, example.eventId);
  return { ...done, integrity, sagas, path, seconds: (performance.now() - startedAt) / 1000 };
}

async function startRoles(session: Session, environment: Environment, scope: Scope) {
  const start = async (name: string, roles: string, more: Environment = {}) => {
    const role = await RoleProcess.start({ home: session.home, name, roles, environment: { ...environment, ...more } });
    scope.defer(name, () => role.stop());
    return role;
  };
  const port = String(await freePort()); // the same after a crash: the clients do not look for another
  const [relay, api, ...consumers] = await Promise.all([
    start('relay', 'relay'),
    start('api', 'api', { HTTP_PORT: port }),
    ...Object.entries(CONSUMERS).map(([name, roles]) => start(name, roles)),
  ]);
  const others: Victim[] = ['api', ...Object.keys(CONSUMERS)].map((name, i) => ({
    name,
    crash: async () => [api, ...consumers][i]?.crash(),
  }));
  return { relay, others, url: (await api.ready()) ?? '' };
}

function victimOf(part: EmbeddedPart): Victim {
  return {
    name: part.name,
    crash: async () => {
      await part.kill();
      await part.start();
    },
  };
}

/** Until every order has ended one way or the other, and all that was written is published. */
async function settle(
  { terminal }: Session,
  pool: Pool,
  config: Config,
  { accepted }: TrafficResult,
  stop: StopSignal,
): Promise<void> {
  await terminal.step('every order completed or undone', async (update) => {
    const onProgress = (ended: number) => update(`${ended} of ${accepted} orders completed or undone`);
    const options = { timeoutMs: SAGAS_TIMEOUT_MS, signal: stop.signal, onProgress };
    if (!(await waitForSagas(pool, accepted, options))) terminal.note('  not all have ended; counting what is there');
  });
  await terminal.step('every committed row published', async () => {
    const quiet = await waitForQuiet(pool, config.RELAY_NAME, QUIET_TIMEOUT_MS, stop.signal);
    if (!quiet) terminal.note('  not all rows are known to be published; counting what is there');
  });
}

interface TrafficParts {
  readonly relay: RoleProcess;
  readonly victims: readonly Victim[];
  readonly pool: Pool;
  readonly url: string;
  readonly key: string;
  readonly relayName: string;
}

/** Orders and kills at the same time; both must come to their end. */
async function runTraffic(
  { terminal }: Session,
  options: DemoOptions,
  { relay, victims, pool, url, key, relayName }: TrafficParts,
  stop: StopSignal,
): Promise<Pick<DemoOutcome, 'traffic' | 'kills' | 'otherKills'>> {
  const failed = new AbortController();
  const signal = AbortSignal.any([stop.signal, failed.signal]);
  let decided = 0;
  let killed = 0;
  const otherKills: Record<string, number> = {};
  return terminal.step(`${options.orders} orders over HTTP`, async (update) => {
    const show = () => {
      const others = Object.values(otherKills).reduce((sum, times) => sum + times, 0);
      const killedText = killed + others === 0 ? '' : `; relay killed ${killed} times, others ${others}`;
      update(`${decided} of ${options.orders} orders over HTTP from ${CLIENTS} clients${killedText}`);
    };
    const traffic = placeOrders({
      url,
      key,
      orders: options.orders,
      clients: CLIENTS,
      signal,
      onProgress: (count) => {
        decided = count;
        show();
      },
    });
    const kills = killRelay({
      relay,
      kills: options.killRelay,
      progress: () => decided / options.orders,
      slot: () => readSlotState(pool, relayName),
      signal,
      onKill: (count) => {
        killed = count;
        show();
      },
    });
    const others = killOthers({
      victims,
      kills: options.killOthers,
      progress: () => decided / options.orders,
      signal,
      onKill: (name) => {
        otherKills[name] = (otherKills[name] ?? 0) + 1;
        show();
      },
    });
    try {
      const [placed, done] = await Promise.all([traffic, kills, others]);
      return { traffic: placed, kills: done, otherKills };
    } catch (error) {
      failed.abort();
      await Promise.allSettled([traffic, kills, others]);
      throw error;
    }
  });
}
