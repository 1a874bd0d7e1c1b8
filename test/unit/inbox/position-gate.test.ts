/** Holding reads back: the order of the looks, whom a time-out names, and that one look serves all who wait. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { PositionGate, type PositionWait } from '../../../src/inbox/position-gate.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { lsn, quiet } from '../../support/relay-fixtures.ts';
import { waitUntil } from '../../support/signals.ts';

/** Postgres, the relay and the group, as far as the gate sees them. */
class World implements Queryable {
  published = 0;
  /** End of the topic, as the group would have to reach it. */
  end = 0n;
  committed = 0n;
  failure: Error | null = null;
  readonly calls: string[] = [];
  readonly gates: PositionGate[] = [];

  gate(): PositionGate {
    const group = {
      ends: async () => this.#note('ends', [{ topic: 't', partition: 0, from: 0n, to: this.end }]),
      committed: async () => this.#note('committed', new Map([['t/0', this.committed]])),
      hasReached: async (ends: ReadonlyArray<{ to: bigint }>) => ends.every(({ to }) => this.committed >= to),
      close: async () => void this.calls.push('close'),
    };
    const openGroup = async () => this.#note('open', group);
    const gate = new PositionGate({ ...quiet, db: this, relay: 'main', openGroup });
    this.gates.push(gate);
    return gate;
  }

  async query<R>(text: string, values: unknown[] = []): Promise<{ rows: R[]; rowCount: number | null }> {
    if (text.includes('pg_notify')) {
      assert.deepEqual(values, ['ferry_relay_main']);
      return this.#note('request', { rows: [], rowCount: 1 });
    }
    assert.deepEqual(values, ['main']);
    const rows = this.published === 0 ? [] : [{ lsn: `0/${this.published.toString(16)}` } as R];
    return this.#note('published', { rows, rowCount: 1 });
  }

  count(call: string): number {
    return this.calls.filter((one) => one === call).length;
  }

  #note<T>(call: string, answer: T): T {
    if (this.failure !== null) throw this.failure;
    this.calls.push(call);
    return answer;
  }
}

const worlds: World[] = [];
function world(changes: Partial<World> = {}): World {
  const made = Object.assign(new World(), changes);
  worlds.push(made);
  return made;
}
afterEach(async () => {
  for (const { gates } of worlds.splice(0)) for (const gate of gates) await gate.close();
});

const wait = (position: number, changes: Partial<PositionWait> = {}): PositionWait => ({
  position: lsn(position),
  timeoutMs: 30_000,
  signal: new AbortController().signal,
  ...changes,
});

describe('a read is held', () => {
  test('until the relay has published its position and the group has reached what the topics held then', async () => {
    const it = world({ end: 5n });
    let result = '';
    const held = it.gate().untilApplied(wait(0x20));
    held.then((how) => {
      result = how;
    });
    await waitUntil('the request for a heartbeat', () => it.count('request') > 0);
    assert.equal(it.count('ends'), 0, 'the ends of before the publishing say nothing');
    it.published = 0x1f;
    const looks = it.count('published');
    await waitUntil('another look', () => it.count('published') > looks + 1);
    assert.equal(it.count('ends'), 0);
    it.end = 9n;
    it.published = 0x20;
    await waitUntil('a look at the group', () => it.count('committed') > 1);
    it.committed = 8n;
    it.end = 1_000n; // what comes later is not waited for
    await waitUntil('a look at the group', () => it.count('committed') > 4);
    assert.equal(result, '');
    it.committed = 9n;
    assert.equal(await held, 'applied');
    assert.equal(it.count('ends'), 1);
  });

  test('not at all when its position is applied already, and no heartbeat is asked for', async () => {
    const it = world({ published: 0x20, end: 5n, committed: 5n });
    assert.equal(await it.gate().untilApplied(wait(0x20, { timeoutMs: 0 })), 'applied');
    assert.deepEqual(it.calls, ['published', 'open', 'ends', 'committed']);
  });

  test('together with others by the same looks', async () => {
    const it = world();
    const gate = it.gate();
    const held = Array.from({ length: 500 }, (_, i) => gate.untilApplied(wait(0x20 + (i % 7))));
    await waitUntil('a request', () => it.count('request') > 0);
    Object.assign(it, { published: 0x40, end: 5n, committed: 5n });
    assert.deepEqual(new Set(await Promise.all(held)), new Set(['applied']));
    assert.deepEqual([it.count('open'), it.count('ends'), it.count('committed')], [1, 1, 1]);
    assert.ok(it.count('request') < 10, `${it.count('request')} heartbeats asked for`);
  });

  test('for no longer than it would, and is told who is behind', async () => {
    const behind = world();
    assert.equal(await behind.gate().untilApplied(wait(0x20, { timeoutMs: 1 })), 'relay-behind');
    const unread = world({ published: 0x20, end: 5n });
    assert.equal(await unread.gate().untilApplied(wait(0x20, { timeoutMs: 1 })), 'consumers-behind');
    const gone = world({ failure: new Error('no route to host') });
    assert.equal(await gone.gate().untilApplied(wait(0x20, { timeoutMs: 1 })), 'unknown');
  });

  test('over a failure, after which the group is opened anew', async () => {
    const it = world({ published: 0x20, end: 5n });
    const held = it.gate().untilApplied(wait(0x20));
    await waitUntil('a look at the group', () => it.count('committed') > 0);
    it.failure = new Error('the broker went away');
    await waitUntil('the old connection closed', () => it.count('close') === 1);
    it.failure = null;
    it.committed = 5n;
    assert.equal(await held, 'applied');
    assert.equal(it.count('open'), 2);
  });

  test('no longer when its client is gone or the server stops; then nobody is held any more', async () => {
    const it = world();
    const gate = it.gate();
    const gone = new AbortController();
    const [first, second] = [gate.untilApplied(wait(0x20, { signal: gone.signal })), gate.untilApplied(wait(0x20))];
    await waitUntil('a look for either', () => it.count('request') > 1); // the first read begins looking before the second is there
    gone.abort();
    assert.equal(await first, 'relay-behind');
    await gate.close();
    assert.equal(await second, 'relay-behind');
    assert.equal(await gate.untilApplied(wait(0x20)), 'unknown');
  });

  test('only with so many others: more than that are refused at once', async () => {
    const it = world();
    const gate = it.gate();
    const held = Array.from({ length: 1_000 }, () => gate.untilApplied(wait(0x20)));
    assert.equal(await gate.untilApplied(wait(0x20)), 'unknown');
    await gate.close();
    await Promise.all(held);
  });
});
