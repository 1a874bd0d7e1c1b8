/**
 * `./ferry demo`: the whole of Ferry on real parts, from nothing: orders over HTTP, the relay killed in mid-flow, and the proof that
 * every committed event is in Kafka once and in order.
 */
import { join } from 'node:path';
import { loadConfig } from '../../config/load.ts';
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
import { placeOrders, type TrafficResult } from './order-traffic.ts';
import type { DemoOptions, DemoOutcome } from './outcome.ts';
import { proveIntegrity, traceEvent, waitForQuiet } from './proof.ts';
import { killRelay, type RelayKill } from './relay-killer.ts';
import { printReport, summaryOf } from './report.ts';

const CLIENTS = 8;
const QUIET_TIMEOUT_MS = 60_000;

/** A home of its own, so that it neither meets nor harms what `up` keeps; its parts are always the embedded ones. */
function demoSession(session: Session, options: DemoOptions): Session {
  const environment: Environment = {
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
  return isSound(outcome.integrity) ? EXIT.fine : EXIT.failedCheck;
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

  const { relay, url } = await terminal.step('api, relay and consumers, each a process of its own', () =>
    startRoles(session, environment, scope),
  );
  const pool = createPool(config, 'ferry-demo', { max: 4 });
  scope.defer('the demo’s connections', () => pool.end());
  const parts = { relay, pool, url, key, relayName: config.RELAY_NAME };
  const { traffic, kills } = await runTraffic(session, options, parts, stop);
  stop.signal.throwIfAborted();
  await terminal.step('every committed row published', async () => {
    const quiet = await waitForQuiet(pool, config.RELAY_NAME, QUIET_TIMEOUT_MS, stop.signal);
    if (!quiet) terminal.note('  not all rows are known to be published; counting what is there');
  });
  const events = await openEventLog(config);
  scope.defer('the connection to Kafka', () => events.close());
  const integrity = await terminal.step('outbox counted against Kafka under read_committed, every value decoded', () =>
    proveIntegrity(pool, events, config),
  );
  const example = traffic.placedEvents[Math.floor(traffic.placedEvents.length / 2)];
  const path = example === undefined ? null : await traceEvent(pool, events, config, example.eventId);
  return { traffic, kills, integrity, path, seconds: (performance.now() - startedAt) / 1000 };
}

async function startRoles(session: Session, environment: Environment, scope: Scope) {
  const start = async (roles: string) => {
    const role = await RoleProcess.start({ home: session.home, name: roles, roles, environment });
    scope.defer(roles, () => role.stop());
    return role;
  };
  const [relay, , api] = await Promise.all([start('relay'), start('consumers'), start('api')]);
  return { relay, url: (await api.ready()) ?? '' };
}

interface TrafficParts {
  readonly relay: RoleProcess;
  readonly pool: Pool;
  readonly url: string;
  readonly key: string;
  readonly relayName: string;
}

/** Orders and kills at the same time; both must come to their end. */
async function runTraffic(
  { terminal }: Session,
  options: DemoOptions,
  { relay, pool, url, key, relayName }: TrafficParts,
  stop: StopSignal,
): Promise<{ traffic: TrafficResult; kills: RelayKill[] }> {
  const failed = new AbortController();
  const signal = AbortSignal.any([stop.signal, failed.signal]);
  let decided = 0;
  let killed = 0;
  return terminal.step(`${options.orders} orders over HTTP`, async (update) => {
    const show = () => {
      const relayText = options.killRelay === 0 ? '' : `; relay killed ${killed} of ${options.killRelay} times`;
      update(`${decided} of ${options.orders} orders over HTTP from ${CLIENTS} clients${relayText}`);
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
    try {
      const [placed, done] = await Promise.all([traffic, kills]);
      return { traffic: placed, kills: done };
    } catch (error) {
      failed.abort();
      await Promise.allSettled([traffic, kills]);
      throw error;
    }
  });
}
