/**
 * How fast a group consumes a backlog with the inbox on, and whether it gets everything right: fills the outbox, has the relay publish all of
 * it, then starts the members, each a process of its own, and takes the time until the last event has its effect. Then the count: each
 * event once, in the order of its key, the group's lag zero. A rate with a fault is none.
 *
 *   node bench/consumers.ts [--events 500000] [--members 1] [--handler projection|ordered|each] [--storm-every seconds]
 *
 * - `projection` is Ferry's own, orders per customer, compared with what SQL computes from the outbox;
 * - `ordered` keeps for each key the version applied last, a statement for each batch, and counts what came out of order;
 * - `each` does the same with a statement for each event, as a handler of single events would.
 *
 * With `--storm-every` a member is killed, stopped or started so often, from the first event to the last.
 */
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { pushAllSchemas } from '../src/cli/schemas-command.ts';
import { loadConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/variables.ts';
import { ordersPerCustomerSource } from '../src/domain/commerce/orders-per-customer.ts';
import { topicRoutes } from '../src/events/routes.ts';
import { sleep } from '../src/kernel/deadline.ts';
import { FERRY_VERSION } from '../src/kernel/version.ts';
import { migrate, migrationSets } from '../src/postgres/migrate.ts';
import { storm, untilConsumed } from '../test/support/consumer-group.ts';
import { FerryProcess } from '../test/support/processes.ts';
import { openProof, type Proof } from '../test/support/proof.ts';
import { createRandom } from '../test/support/random.ts';
import { startTestStack } from '../test/support/stack.ts';
import { handlerOf } from './consumer-handlers.ts';
import { fillOutbox } from './workload.ts';

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '500000' },
    members: { type: 'string', default: '1' },
    handler: { type: 'string', default: 'projection' },
    'storm-every': { type: 'string' },
  },
});
const events = Number(options.events);
const handler = handlerOf(options.handler);
const stormEveryMs = options['storm-every'] === undefined ? null : Number(options['storm-every']) * 1_000;
const LOOK_EVERY_MS = 250;
const DEADLINE_MS = 1_800_000;
/** So that a killed member is missed soon; in production it is longer. */
const STORM_SETTINGS = { CONSUMER_SESSION_TIMEOUT_MS: '2000' };

const stack = await startTestStack();
try {
  const environment = {
    DATABASE_URL: stack.addresses.postgresUrl,
    KAFKA_BROKERS: stack.addresses.kafkaBrokers,
    SCHEMA_REGISTRY_URL: stack.addresses.registryUrl,
    FERRY_MODULES: 'commerce',
    LOG_LEVEL: 'warn',
    NODE_OPTIONS: process.env.NODE_OPTIONS ?? '',
    ...(stormEveryMs === null ? {} : STORM_SETTINGS),
  };
  const config = loadConfig(environment);
  await migrate(config, migrationSets('commerce'));
  await pushAllSchemas(config);
  const proof = await openProof(config);
  try {
    await publishBacklog(proof, environment);
    await handler.prepare(proof.pool);
    const group = ordersPerCustomerSource(topicRoutes(config), config.TOPIC_PREFIX);
    await measure(proof, config, group, startMembers(environment, group));
  } finally {
    await proof.close();
  }
} finally {
  await stack.close();
}

async function publishBacklog(proof: Proof, env: Readonly<Record<string, string>>): Promise<void> {
  await fillOutbox(stack.addresses.postgresUrl, events, 100, { cancelled: true });
  const relay = new FerryProcess({ roles: 'relay', env });
  relay.start();
  try {
    await proof.assertSound({ rows: events, deadlineMs: DEADLINE_MS });
  } finally {
    await relay.stop();
  }
}

function startMembers(
  env: Readonly<Record<string, string>>,
  { group, topics }: { group: string; topics: readonly string[] },
): FerryProcess[] {
  const { script } = handler;
  const told = { ...env, BENCH_CONSUMER: JSON.stringify({ group, topics, handler: options.handler }) };
  return Array.from(
    { length: Number(options.members) },
    () => new FerryProcess(script === undefined ? { roles: 'projection', env } : { script, env: told }),
  );
}

async function measure(
  proof: Proof,
  config: Config,
  { group, topics }: { group: string; topics: string[] },
  members: readonly FerryProcess[],
): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const over = new AbortController();
  const startedAt = performance.now();
  const storming =
    stormEveryMs === null ? startAll(members) : storm(members, createRandom(seed), stormEveryMs, over.signal);
  try {
    const { firstMs, firstEvents } = await untilApplied(proof, startedAt);
    const seconds = (performance.now() - startedAt) / 1_000;
    const peakBytes = members.map((member) => member.peakMemoryBytes() ?? 0);
    over.abort();
    const disturbed = await storming;
    await untilConsumed(config, group, topics);
    await assertEachOnce(proof, group);
    await handler.assertSound(proof.pool, events);
    for (const member of members) await member.stop();
    const { version } = await one<{ version: string }>(proof, "select current_setting('server_version') as version");
    console.log(
      JSON.stringify(
        {
          machine: { cpus: cpus().length, model: cpus()[0]?.model, memoryGiB: Math.round(totalmem() / 2 ** 30) },
          versions: { ferry: FERRY_VERSION, node: process.version, postgres: version },
          handler: options.handler,
          events,
          members: members.length,
          storm: disturbed === null ? null : { everyMs: stormEveryMs, seed, ...disturbed },
          seconds: Number(seconds.toFixed(2)),
          perSecond: Math.round(events / seconds),
          firstEventMs: Math.round(firstMs),
          perSecondOnceConsuming: Math.round((events - firstEvents) / (seconds - firstMs / 1_000)),
          peakMemoryMiB: Math.round(Math.max(...peakBytes) / 2 ** 20),
          faults: 0,
        },
        null,
        2,
      ),
    );
  } finally {
    over.abort();
    await storming;
    for (const member of members) await member.kill();
  }
}

async function startAll(members: readonly FerryProcess[]): Promise<null> {
  for (const member of members) member.start();
  return null;
}

/** Looks at the effects, which is cheaper than counting the inbox; resolves with when they were first seen, and how many they were then. */
async function untilApplied(proof: Proof, startedAt: number): Promise<{ firstMs: number; firstEvents: number }> {
  let first: { firstMs: number; firstEvents: number } | null = null;
  while (performance.now() - startedAt < DEADLINE_MS) {
    const applied = await handler.applied(proof.pool);
    if (applied > 0) first ??= { firstMs: performance.now() - startedAt, firstEvents: applied };
    if (applied >= events && first !== null) return first;
    await sleep(LOOK_EVERY_MS);
  }
  throw new Error(`not all events were applied within ${DEADLINE_MS} ms`);
}

async function assertEachOnce(proof: Proof, group: string): Promise<void> {
  const { entered, unknown } = await one<{ entered: number; unknown: number }>(
    proof,
    `select count(*)::int as entered, count(*) filter (where o.id is null or i.outcome <> 'applied')::int as unknown
     from ferry.inbox i left join ferry.outbox o on o.id = i.event_id where i.consumer_group = $1`,
    [group],
  );
  if (entered !== events || unknown !== 0)
    throw new Error(`the inbox has ${entered} of ${events} events, ${unknown} of them not as they should be`);
}

async function one<R extends object>(proof: Proof, text: string, values: unknown[] = []): Promise<R> {
  const result = await proof.pool.query<R>(text, values);
  const row = result.rows[0];
  if (row === undefined) throw new Error('the query gave no row');
  return row;
}
