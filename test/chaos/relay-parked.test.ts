/**
 * The relay killed while it parks keys and while it releases them, under a load of healthy events: every event is in Kafka once, every key in
 * order, and what is healthy does not wait.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { listParkedKeys } from '../../src/ops/parked-keys.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { orderCancelled, orderPlaced } from '../support/order-payloads.ts';
import { createRandom, type Random } from '../support/random.ts';
import { type NewEvent, RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { secondVersion } from '../support/second-schema.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();

/** Of all keys together. */
const POISON = 1_000;
const KEYS = 50;
/** Batches are small enough to split the release of a key. */
const SMALL = { RELAY_BATCH_MAX_EVENTS: '12', RELAY_HEARTBEAT_INTERVAL_MS: '250' };

/** Keys whose events are of two types, one of them poison until its schema is pushed. */
class SickKeys {
  readonly #lab: RelayLab;
  readonly #random: Random;
  readonly #versions = new Map<string, number>();

  constructor(lab: RelayLab, seed: number) {
    this.#lab = lab;
    this.#random = createRandom(seed);
  }

  get keys(): string[] {
    return Array.from({ length: KEYS }, (_, i) => `sick-${i}`);
  }

  /** Writes one event of each kind for each of the keys, in one transaction. */
  async write(keys: readonly string[], kinds: ReadonlyArray<'poison' | 'good'>): Promise<void> {
    await this.#lab.insert(keys.flatMap((key) => kinds.map((kind) => this.#event(key, kind))));
  }

  #event(aggregateId: string, kind: 'poison' | 'good'): NewEvent {
    const version = (this.#versions.get(aggregateId) ?? 0) + 1;
    this.#versions.set(aggregateId, version);
    if (kind === 'good') return { aggregateId, version, payload: orderPlaced(this.#random) };
    const payload = { ...orderCancelled(this.#random), channel: 'phone' };
    return { aggregateId, version, type: 'commerce.OrderCancelled', payload };
  }
}

async function parkedCount(lab: RelayLab): Promise<number> {
  const pool = createPool(lab.config, 'test', { max: 1 });
  return (await listParkedKeys(pool, null).finally(() => pool.end())).length;
}

/** Starts the relay so that it dies at that point, and waits for it. */
async function dieAt(lab: RelayLab, point: string): Promise<void> {
  lab.relay.start({ FERRY_FAIL_POINT: point });
  await lab.relay.exited();
  assert.equal(lab.relay.signal, 'SIGKILL', `${point}: the relay ended otherwise`);
}

async function healthyFlows(lab: RelayLab, key: string): Promise<void> {
  const [id] = await lab.insert([{ aggregateId: key, version: 1, payload: orderPlaced(createRandom(1)) }]);
  await lab.untilPublished(id);
}

describe('a relay that parks keys', () => {
  test('killed while it parks 1,000 poison events of 50 keys and while it releases them: each once, each key in order', async (t: TestContext) => {
    const lab = await RelayLab.open(stack, SMALL);
    t.after(() => lab.close());
    const sick = new SickKeys(lab, 5);
    const writing = lab.startWriting({ rowsPerSecond: 100, largestTransaction: 200, writers: 2 });
    for (let round = 0; round < POISON / KEYS; round++) {
      if (round % 5 === 0) {
        await lab.relay.kill();
        await lab.stream();
      }
      await sick.write(sick.keys, ['good', 'poison']);
    }
    await healthyFlows(lab, 'healthy-while-parked');
    assert.equal(await parkedCount(lab), KEYS);
    const { rows } = await lab.sql<{ code: string; count: string }>(
      'select error_code as code, count(*) from ferry.relay_dead_letter group by 1 order by 1',
    );
    t.diagnostic(`dead letters: ${JSON.stringify(rows)}`);

    await pushAllSchemas({ ...lab.config, SCHEMAS_DIR: secondVersion(t) });
    await lab.relay.kill();
    for (const key of sick.keys) await lab.release(key);
    await sick.write(sick.keys, ['good', 'poison']); // committed behind the releases: must not overtake what they publish
    for (let kill = 0; kill < 10; kill++) await dieAt(lab, `inside-key-release:${1 + (kill % 3)}`);
    await lab.stream();
    await waitUntil('all keys being free', async () => (await parkedCount(lab)) === 0, { deadlineMs: 240_000 });
    await sick.write(sick.keys, ['poison', 'good']);
    await writing.stop();
    const report = await lab.assertExactlyOnce(240_000);
    assert.ok(report.released >= 2 * POISON - KEYS, `${report.released} were released`);
    t.diagnostic(`${report.outboxRows} rows, ${report.released} of them released`);
  });

  for (const point of ['after-encode', 'after-send', 'after-end-txn', 'after-commit-before-confirm']) {
    test(`killed ${point}, while it parks and while it releases`, async (t: TestContext) => {
      const lab = await RelayLab.open(stack, SMALL);
      t.after(() => lab.close());
      const sick = new SickKeys(lab, 6);
      const few = sick.keys.slice(0, 8);
      await lab.stream();
      await lab.relay.kill();
      for (const nth of [1, 2, 4]) {
        await sick.write(few, ['good', 'poison', 'good', 'good']); // one transaction of three batches
        await sick.write(few, ['good', 'poison']);
        await dieAt(lab, `${point}:${nth}`);
      }
      await lab.stream();
      await healthyFlows(lab, 'healthy');
      await lab.relay.kill();
      await pushAllSchemas({ ...lab.config, SCHEMAS_DIR: secondVersion(t) });
      for (const nth of [1, 2, 5]) {
        for (const key of few) await lab.release(key).catch(() => {}); // some are free by now
        await sick.write(few, ['poison', 'good']);
        await dieAt(lab, `${point}:${nth}`);
      }
      await lab.stream();
      for (const key of few) await lab.release(key).catch(() => {});
      await waitUntil('all keys being free', async () => (await parkedCount(lab)) === 0, { deadlineMs: 240_000 });
      await lab.assertExactlyOnce(240_000);
    });
  }

  test('killed between the last commit of a release and its notes, the database calls nothing dead any more', async (t: TestContext) => {
    const lab = await RelayLab.open(stack, SMALL);
    t.after(() => lab.close());
    const sick = new SickKeys(lab, 7);
    await lab.stream();
    await sick.write(['sick-0', 'sick-1'], ['poison', 'good']);
    await healthyFlows(lab, 'healthy');
    await pushAllSchemas({ ...lab.config, SCHEMAS_DIR: secondVersion(t) });
    await lab.relay.kill();
    await lab.release('sick-0');
    await lab.release('sick-1', { discard: true });
    await dieAt(lab, 'after-release-before-notes');
    lab.deadLetters = 1;
    lab.relay.start();
    await untilStreaming(lab.relay);
    await waitUntil('all keys being free', async () => (await parkedCount(lab)) === 0); // it died at the first of two releases
    await lab.assertExactlyOnce(240_000);
    const { rows } = await lab.sql('select resolution, parked from ferry.relay_dead_letter');
    assert.deepEqual(rows, [{ resolution: 'discarded', parked: false }]);
  });
});
