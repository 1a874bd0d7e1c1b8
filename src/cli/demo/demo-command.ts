/**
 * `./ferry demo`: the whole of Ferry on real parts, from nothing: orders over HTTP and their fulfilment, with failures put in and every process
 * killed in mid-flow; and the proof that every committed event is in Kafka once and in order, and every order completed or wholly undone.
 */
import { databasesOf } from '../../config/databases.ts';
import type { EmbeddedPart } from '../../embedded/part.ts';
import { Scope } from '../../kernel/scope.ts';
import type { Pool } from '../../postgres/connection.ts';
import { Pools } from '../../postgres/pools.ts';
import { isSound } from '../../reconcile/integrity.ts';
import { commerceSession, startCommerce } from '../commerce-stack.ts';
import { detach } from '../detach.ts';
import { endStack } from '../down-command.ts';
import { openEventLog } from '../event-log.ts';
import { EXIT } from '../exit-codes.ts';
import { readSlotState } from '../relay-status.ts';
import type { RoleProcess } from '../role-process.ts';
import type { Session } from '../session.ts';
import { onStopSignal, type StopSignal } from '../signals.ts';
import { killOthers, killRelay, type Victim } from './killers.ts';
import { placeOrders } from './order-traffic.ts';
import type { DemoOptions, DemoOutcome } from './outcome.ts';
import { injectFailures, readCharges } from './payment-provider.ts';
import { countRows, outboxesOf, proveIntegrity, traceEvent } from './proof.ts';
import { printReport, summaryOf } from './report.ts';
import { isFulfilled, moduleDatabases, proveSagas } from './saga-proof.ts';
import { settle } from './settle.ts';

const CLIENTS = 8;

function demoSession(outer: Session, options: DemoOptions): Session {
  return commerceSession(outer, options, 'demo', {
    defaults: {
      CONSUMER_SESSION_TIMEOUT_MS: '6000', // the shortest that brokers allow: a killed consumer's partitions are given away then
      PAYMENT_PROVIDER_TIMEOUT_MS: '500',
      COMMERCE_FAULT_PERCENT: String(Math.round(options.failureRate * 100)),
    },
  });
}

export async function runDemo(outer: Session, options: DemoOptions): Promise<number> {
  const session = demoSession(outer, options);
  const stop = onStopSignal(() => session.home.killRecorded());
  const scope = new Scope();
  let outcome: DemoOutcome;
  try {
    if (session.home.owner()?.leftBehind === true) await endStack(session.home); // by an earlier `--keep`
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
  const { terminal } = session;
  const stack = await startCommerce(session, scope, stop.signal, options.databases);
  const { config, relay, url, key } = stack;
  await injectFailures(stack.paymentProviderUrl, options.failureRate);
  const databases = databasesOf(config);
  const pools = new Pools({ databases, applicationName: 'ferry-demo', settings: () => ({ max: 4 }) });
  scope.defer('the demo’s connections', () => pools.end());
  const pool = pools.of('main');
  const outboxes = outboxesOf(pools);
  const victims = [
    ...[...stack.others].map(([name, role]) => roleVictim(name, role)),
    partVictim(stack.paymentProvider),
  ];
  const parts = { relay, victims, pool, url, key, relayName: config.RELAY_NAME };
  const done = await runTraffic(session, options, parts, stop);
  stop.signal.throwIfAborted();
  await settle(terminal, pool, { orders: done.traffic.accepted, outboxes, signal: stop.signal });
  // Nothing is left to do for them, and the count needs the machine. What goes wrong is told by the scope, which does the same.
  stack.stopRoles().catch(() => {});
  const events = await openEventLog(config);
  scope.defer('the connection to Kafka', () => events.close());
  const integrity = await terminal.step('outbox counted against Kafka under read_committed, every value decoded', () =>
    proveIntegrity(outboxes, events, config),
  );
  const sagas = await terminal.step('orders, money and stock counted against each other', async () =>
    proveSagas(moduleDatabases(databases, pools), await readCharges(stack.paymentProviderUrl)),
  );
  const example = done.traffic.placedEvents[Math.floor(done.traffic.placedEvents.length / 2)];
  const path = example === undefined ? null : await traceEvent(pool, events, config, example.eventId);
  return {
    ...done,
    integrity,
    outboxes: await countRows(outboxes),
    sagas,
    path,
    seconds: (performance.now() - startedAt) / 1000,
  };
}

function roleVictim(name: string, role: RoleProcess): Victim {
  return { name, crash: () => role.crash() };
}

function partVictim(part: EmbeddedPart): Victim {
  return {
    name: part.name,
    crash: async () => {
      await part.kill();
      await part.start();
    },
  };
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
