/** A group's member over a kafkajs consumer that a test drives: what it hands over, commits, and when it begins anew. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { mock, type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { type Consumer, type EachBatchPayload, Kafka } from 'kafkajs';
import { GroupConsumer } from '../../../src/kafka/consumer.ts';
import { quiet } from '../../support/relay-fixtures.ts';
import { waitUntil } from '../../support/signals.ts';

const TOPIC = 'orders';
const SESSION_MS = 10_000;

/** What kafkajs's consumer does on its own, done by the test. */
class DrivenConsumer extends EventEmitter {
  readonly events = {
    CRASH: 'crash',
    HEARTBEAT: 'heartbeat',
    GROUP_JOIN: 'join',
    FETCH_START: 'fetch-start',
    FETCH: 'fetch',
    REBALANCING: 'rebalancing',
  };
  readonly committed: unknown[] = [];
  resolved: string | null = null;
  #eachBatch: (payload: EachBatchPayload) => Promise<void> = async () => {};

  async connect() {}
  async disconnect() {}
  async subscribe() {}
  async run({ eachBatch }: { eachBatch: (payload: EachBatchPayload) => Promise<void> }) {
    this.#eachBatch = eachBatch;
  }

  tell(event: keyof DrivenConsumer['events'], payload: object): void {
    this.emit(this.events[event], { payload });
  }

  join(...partitions: number[]): void {
    this.tell('GROUP_JOIN', { memberAssignment: { [TOPIC]: partitions } });
  }

  /** A batch of one record. */
  deliver(partition: number, offset: number): Promise<void> {
    const messages = [{ offset: String(offset), timestamp: '0', key: null, value: null, headers: {} }];
    const payload = {
      batch: { topic: TOPIC, partition, highWatermark: String(offset + 1), messages },
      heartbeat: async () => {},
      isRunning: () => true,
      resolveOffset: (resolved: string) => {
        this.resolved = resolved;
      },
      commitOffsetsIfNecessary: async (offsets: unknown) => {
        this.committed.push(offsets);
      },
    };
    return this.#eachBatch(payload as unknown as EachBatchPayload);
  }
}

interface Driven {
  /** The consumers that were made so far. */
  readonly made: readonly DrivenConsumer[];
  readonly offered: string[];
  readonly assigned: number[][];
}

function start(t: TestContext): Driven {
  const made: DrivenConsumer[] = [];
  mock.method(Kafka.prototype, 'consumer', () => {
    const consumer = new DrivenConsumer();
    made.push(consumer);
    return consumer as unknown as Consumer;
  });
  const offered: string[] = [];
  const assigned: number[][] = [];
  const member = new GroupConsumer({
    kafka: { brokers: ['nowhere:1'], tls: false, clientId: 'test', logger: quiet.logger },
    groupId: 'group',
    topics: [TOPIC],
    sessionTimeoutMs: SESSION_MS,
    commitIntervalMs: 100,
    backoffMaxMs: 1,
    metrics: quiet.metrics,
    intake: {
      assigned: (partitions) => assigned.push(partitions.map(({ partition }) => partition)),
      offer: (records) => offered.push(...records.map(({ partition, offset }) => `${partition}/${offset}`)),
      waitForRoom: async () => true,
      committable: () => [],
    },
  });
  member.start();
  t.after(async () => {
    await member.stop();
    mock.restoreAll();
  });
  return { made, offered, assigned };
}

async function nth(driven: Driven, n: number): Promise<DrivenConsumer> {
  return waitUntil(`consumer ${n}`, () => driven.made[n - 1] ?? null);
}

test('hands records over and moves on', async (t) => {
  const driven = start(t);
  const consumer = await nth(driven, 1);
  consumer.join(0);
  await consumer.deliver(0, 7);
  assert.deepEqual(driven.offered, ['0/7']);
  assert.equal(consumer.resolved, '7');
});

test('stays the same member in a rebalance, whatever was being fetched', async (t) => {
  const driven = start(t);
  const consumer = await nth(driven, 1);
  consumer.join(0, 1);
  for (const nodeId of [1, 2]) consumer.tell('FETCH_START', { nodeId });
  consumer.tell('REBALANCING', {}); // broker 1's loop ended in an error: its FETCH is never told
  consumer.join(0);
  await consumer.deliver(0, 7);
  assert.deepEqual(driven.offered, ['0/7']);
  assert.deepEqual(driven.assigned, [[0, 1], [0]]);
  assert.equal(driven.made.length, 1);
});

test('begins anew when one broker’s loop joins the group while another’s records are under way, and takes none of those', async (t) => {
  const driven = start(t);
  const consumer = await nth(driven, 1);
  consumer.join(0, 1);
  for (const nodeId of [1, 2]) consumer.tell('FETCH_START', { nodeId });
  consumer.tell('FETCH', { nodeId: 2 }); // its records wait for their turn
  consumer.join(0, 1); // broker 1 said that it leads no more
  await consumer.deliver(1, 9);
  assert.deepEqual(driven.offered, []);
  assert.equal(consumer.resolved, null);
  const next = await nth(driven, 2);
  next.join(0, 1);
  await next.deliver(1, 7);
  assert.deepEqual(driven.offered, ['1/7']);
});

test('a single broker’s loop that joins again has nothing under way', async (t) => {
  const driven = start(t);
  const consumer = await nth(driven, 1);
  consumer.join(0);
  consumer.tell('FETCH_START', { nodeId: 1 });
  consumer.join(0, 1);
  await consumer.deliver(1, 3);
  assert.deepEqual(driven.offered, ['1/3']);
  assert.equal(driven.made.length, 1);
});

test('a member that the group has not confirmed for three sessions begins anew', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const driven = start(t);
  const pass = async (ms: number) => {
    t.mock.timers.tick(ms);
    await setImmediate();
  };
  await pass(0);
  const [consumer] = driven.made;
  assert.ok(consumer);
  consumer.join(0);
  for (let i = 0; i < 5; i++) {
    await pass(3 * SESSION_MS - 1);
    consumer.tell('HEARTBEAT', {});
  }
  await pass(3 * SESSION_MS - 1);
  assert.equal(driven.made.length, 1);
  for (let ms = 0; ms < 100 && driven.made.length === 1; ms++) await pass(1); // with the pause before the next attempt
  assert.equal(driven.made.length, 2);
  assert.deepEqual(driven.assigned, [[0], []]);
  t.mock.timers.reset();
});
