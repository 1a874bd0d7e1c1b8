/**
 * Postgres, Kafka and the registry stopped, killed and frozen under load, and the network between them cut, stalled and half open. The
 * relay goes on by itself each time, and at the end every event is in Kafka once.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, type TestContext, test } from 'node:test';
import type { PartName } from '../../src/embedded/part.ts';
import { sleep } from '../../src/kernel/deadline.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import type { LogLine } from '../support/processes.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab, type Writing } from '../support/relay-lab.ts';
import { ownStack } from '../support/stack.ts';
import { seededRandom, shuffled, untilHealed, whileFrozen } from '../support/stack-faults.ts';
import { type ProxyTarget, TcpProxy } from '../support/tcp-proxy.ts';

const stack = await ownStack();
afterEach(() => untilHealed(stack)); // a failed test may leave a part down

const WRITERS = { rowsPerSecond: 200, largestTransaction: 300 };
/** Longer than the relays below wait for a sign of life. */
const BROKEN_MS = 5_000;
/** 5 s are promised; the machine of the tests may be busy. */
const FAST_STOP_LIMIT_MS = 15_000;

const RESTARTS: ReadonlyArray<readonly [PartName, 'stop' | 'kill']> = [
  ['postgres', 'stop'],
  ['postgres', 'kill'],
  ['kafka', 'stop'],
  ['kafka', 'kill'],
  ['registry', 'stop'],
  ['registry', 'kill'],
];

describe('a part that goes away', () => {
  test('stopped or killed, in any order, and started again', async (t) => {
    const random = seededRandom(t);
    const { lab, writing } = await busyLab(t);
    for (const [part, way] of shuffled(random, RESTARTS)) {
      const startedAt = performance.now();
      await stack.embedded.part(part)[way]();
      await stack.embedded.part(part).start();
      await untilPublishing(lab);
      t.diagnostic(`${part} ${way}: publishing again after ${Math.round(performance.now() - startedAt)} ms`);
    }
    await writing.stop();
    await untilHealed(stack);
    await lab.assertExactlyOnce();
  });

  test('a broker that freezes in the middle of transactions', async (t) => {
    const { lab, writing } = await busyLab(t, { RELAY_TRANSACTION_TIMEOUT_MS: '5000' });
    for (const frozenMs of [2_000, 8_000]) {
      await untilPublishing(lab);
      await whileFrozen(stack, 'kafka', () => sleep(frozenMs));
      await untilPublishing(lab);
    }
    await writing.stop();
    await untilHealed(stack);
    await lab.assertExactlyOnce();
  });

  test('a registry that is down: events of known schemas go on, one of an unknown type waits for it', async (t) => {
    const lab = await RelayLab.open(stack);
    t.after(() => lab.close());
    await lab.stream();
    await untilPublishing(lab);
    await stack.embedded.part('registry').stop();
    await untilPublishing(lab);
    const [id] = await lab.insert([{ aggregateId: 'unheard', type: 'commerce.Unheard', payload: {} }]);
    const missesRegistry = (line: LogLine) => JSON.stringify(line).includes('REGISTRY_UNAVAILABLE');
    await lab.relay.waitForLog('the registry being missed', missesRegistry);
    assert.equal(await lab.statusOf(id), 'pending');
    await stack.embedded.part('registry').start();
    lab.deadLetters += 1; // only now is it known that nobody knows its type
    await lab.assertExactlyOnce();
    assert.equal(await lab.statusOf(id), 'dead-lettered');
  });
});

describe('a fast stop of Postgres returns', () => {
  test('while Kafka is down', async (t) => {
    const { lab, writing } = await busyLab(t);
    await untilPublishing(lab);
    await stack.embedded.part('kafka').stop();
    await lab.relay.waitForLog('Kafka being missed', ({ msg }) => /lost a part/.test(msg));
    await assertFastStop(t);
    await stack.embedded.part('kafka').start();
    await stack.embedded.part('postgres').start();
    await untilPublishing(lab);
    await writing.stop();
    await untilHealed(stack);
    await lab.assertExactlyOnce();
  });

  test('while Kafka does not answer', async (t) => {
    const { lab, writing } = await busyLab(t);
    await untilPublishing(lab);
    await whileFrozen(stack, 'kafka', async () => {
      await lab.insert([{ aggregateId: 'unanswered', payload: orderPlaced(createRandom(1)) }]);
      await assertFastStop(t);
    });
    await stack.embedded.part('postgres').start();
    await untilPublishing(lab);
    await writing.stop();
    await untilHealed(stack);
    await lab.assertExactlyOnce();
  });
});

describe('a network that breaks', () => {
  test('between the relay and Postgres', async (t) => {
    const { hostname: host, port } = new URL(stack.postgresUrl);
    const proxy = await startProxy(t, { host, port: Number(port) });
    const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '50', RELAY_DEAD_AFTER_MS: '3000' });
    t.after(() => lab.close());
    const relay = lab.newRelay({ DATABASE_URL: proxy.through(lab.environment.DATABASE_URL ?? '') });
    await lab.stream(relay);
    await assertSurvivesBreaks(lab, proxy);
  });

  test('between the relay and Kafka', async (t) => {
    const [host = '', port] = stack.kafkaBrokers.split(':');
    const proxy = await startProxy(t, { host, port: Number(port), advertisedHost: host });
    const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '50', RELAY_TRANSACTION_TIMEOUT_MS: '5000' });
    t.after(() => lab.close());
    const relay = lab.newRelay({ KAFKA_BROKERS: `127.0.0.1:${proxy.port}` });
    await lab.stream(relay);
    await assertSurvivesBreaks(lab, proxy);
  });
});

async function busyLab(
  t: TestContext,
  environment: Record<string, string> = {},
): Promise<{ lab: RelayLab; writing: Writing }> {
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '50', ...environment });
  t.after(() => lab.close());
  await lab.stream();
  return { lab, writing: lab.startWriting(WRITERS) };
}

/** An event that is committed now gets through, behind everything that was committed before. */
async function untilPublishing(lab: RelayLab): Promise<void> {
  const [id] = await lab.insert([{ aggregateId: 'marker', payload: orderPlaced(createRandom(1)) }]);
  await lab.untilPublished(id);
}

async function startProxy(t: TestContext, target: ProxyTarget): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(target);
  t.after(() => proxy.close());
  return proxy;
}

async function assertSurvivesBreaks(lab: RelayLab, proxy: TcpProxy): Promise<void> {
  const writing = lab.startWriting(WRITERS);
  for (let cut = 0; cut < 4; cut++) {
    await untilPublishing(lab);
    proxy.cut();
  }
  for (const mode of ['stall', 'half-open', 'refuse'] as const) {
    await untilPublishing(lab);
    proxy.setMode(mode);
    if (mode === 'refuse') proxy.cut();
    await sleep(BROKEN_MS);
    proxy.setMode('pass');
  }
  await untilPublishing(lab);
  await writing.stop();
  await lab.assertExactlyOnce();
}

async function assertFastStop(t: TestContext): Promise<void> {
  const startedAt = performance.now();
  await stack.embedded.part('postgres').stop();
  const tookMs = Math.round(performance.now() - startedAt);
  t.diagnostic(`Postgres stopped within ${tookMs} ms`);
  assert.ok(tookMs < FAST_STOP_LIMIT_MS, `the fast stop took ${tookMs} ms`);
}
