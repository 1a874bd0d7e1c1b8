/**
 * How much a consumer takes up, and how it lets go, on the real parts: bounded memory behind a slow handler, pause and resume, a stop that
 * finishes what is in flight or hands it back.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { HandleEvent } from '../../src/inbox/handler.ts';
import { ConsumerLab, type Counted } from '../support/consumer-lab.ts';
import { Signal, waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);
/** kafkajs asks for at most this much of a partition at a time. */
const FETCH_BYTES = 1_048_576;

/** A handler that waits until it is let on. */
class Gate {
  readonly entered = new Signal();
  readonly #open = Promise.withResolvers<void>();
  calls = 0;

  handler(lab: ConsumerLab): HandleEvent<Counted> {
    return async (event, tx, { attempt }) => {
      this.calls += 1;
      this.entered.fire();
      await this.#open.promise;
      await lab.effect(event, tx, attempt);
    };
  }

  open(): void {
    this.#open.resolve();
  }
}

describe('a consumer whose handler is slow', { concurrency: 2 }, () => {
  test('reads no more than its limit and one fetch, keeps its partitions, and goes on afterwards', async () => {
    const lab = await ConsumerLab.open(stack, { partitions: 1 });
    const gate = new Gate();
    const limit = 20;
    const note = 'x'.repeat(20_000);
    for (const from of [0, 100, 200]) {
      for (let i = 0; i < 100; i += 25)
        await lab.send(upTo(25).map((n) => ({ key: `k${n % 10}`, n: from + i + n, note })));
    }
    let queued = 0;
    let looks = 0;
    lab.start({
      handle: gate.handler(lab),
      settings: {
        concurrency: 1,
        maxBatchEvents: 5,
        queue: { maxEvents: limit, maxBytes: 100_000_000 },
        sessionTimeoutMs: 6_000,
      },
      onQueued: (events) => {
        queued = Math.max(queued, events);
        looks += 1;
      },
    });
    await gate.entered.wait('the first event');
    const looked = looks;
    await waitUntil('more time than a session may be silent', () => looks > looked + 80); // offsets are looked at every 100 ms
    const perFetch = Math.ceil(FETCH_BYTES / 20_000) + 25; // a fetch ends with a whole batch
    assert.ok(queued >= limit && queued < limit + perFetch, `${queued} events were queued`);
    assert.equal(gate.calls, 1, 'the partitions were taken away');
    gate.open();
    await lab.untilEffects(300);
    await lab.untilDone();
    assert.ok(queued < limit + perFetch, `${queued} events were queued`);
    assert.equal((await lab.effects()).length, 300);
  });

  test('counts bytes as well as events', async () => {
    const lab = await ConsumerLab.open(stack, { partitions: 1 });
    const gate = new Gate();
    const note = 'x'.repeat(50_000);
    for (let i = 0; i < 120; i += 15) await lab.send(upTo(15).map((n) => ({ key: `k${n}`, n: i + n, note })));
    let queued = 0;
    lab.start({
      handle: gate.handler(lab),
      settings: { concurrency: 1, queue: { maxEvents: 100_000, maxBytes: 500_000 } },
      onQueued: (events) => {
        queued = Math.max(queued, events);
      },
    });
    await gate.entered.wait('the first event');
    await waitUntil('some to be queued', () => queued > 0);
    assert.ok(queued <= 10 + Math.ceil(FETCH_BYTES / 50_000) + 15, `${queued} events were queued`);
    gate.open();
    await lab.untilEffects(120);
  });
});

describe('a consumer', { concurrency: 3 }, () => {
  test('takes nothing up while it is paused, and all of it afterwards', async () => {
    const lab = await ConsumerLab.open(stack);
    let calls = 0;
    const member = lab.start({
      handle: async (event, tx) => {
        calls += 1;
        await lab.effect(event, tx);
      },
    });
    await lab.send([{ key: 'k', n: 1 }]);
    await lab.untilEffects(1);
    member.pause();
    await lab.send(upTo(20).map((n) => ({ key: 'k', n: n + 1 })));
    await waitUntil('the records', () => member.committable().length > 0);
    assert.equal(calls, 1);
    member.resume();
    await lab.untilEffects(21);
    assert.deepEqual(await lab.effectsOf('k'), upTo(21));
  });

  test('that is stopped finishes what is in flight, and commits it', async () => {
    const lab = await ConsumerLab.open(stack, { partitions: 1 });
    const gate = new Gate();
    const member = lab.start({ handle: gate.handler(lab), settings: { maxBatchEvents: 1, concurrency: 1 } });
    await lab.send([
      { key: 'k', n: 1 },
      { key: 'k', n: 2 },
    ]);
    await gate.entered.wait('the event');
    const stopped = member.stop();
    gate.open();
    await stopped;
    await member.stop(); // twice is no harm
    assert.deepEqual(await lab.effectsOf('k'), [1]);
    assert.deepEqual([...(await lab.committed()).values()], [1n]);
    const again: number[] = [];
    lab.start({
      handle: async (event, tx) => {
        again.push(event.value.n);
        await lab.effect(event, tx);
      },
    });
    await lab.untilEffects(2);
    assert.deepEqual(again, [2]);
  });

  test('that cannot finish in time hands it back: nothing is done, and it comes again', async () => {
    const lab = await ConsumerLab.open(stack);
    const gate = new Gate();
    const reasons: unknown[] = [];
    const handle: HandleEvent<Counted> = async (event, tx, context) => {
      await lab.effect(event, tx);
      context.signal.addEventListener('abort', () => reasons.push(context.signal.reason));
      await gate.handler(lab)(event, tx, context);
    };
    const member = lab.start({ handle, settings: { stopTimeoutMs: 200 } });
    await lab.send([{ key: 'k', n: 1 }]);
    await gate.entered.wait('the event');
    await member.stop();
    assert.match(String(reasons[0]), /the consumer stops/);
    assert.deepEqual(await lab.effects(), []);
    assert.equal((await lab.inbox()).size, 0);
    lab.start();
    await lab.untilEffects(1);
    await lab.untilDone();
    assert.deepEqual(await lab.effects(), ['k1']);
    assert.deepEqual(await lab.deadLetters(), []);
  });

  test('that is stopped while an event waits for its next try leaves it to the next member', async () => {
    const lab = await ConsumerLab.open(stack);
    const failed = new Signal();
    const member = lab.start({
      handle: async () => {
        failed.fire();
        throw new Error('not now');
      },
      settings: { retry: { maxTries: 10, baseMs: 60_000, maxMs: 60_000 } },
    });
    await lab.send([{ key: 'k', n: 1 }]);
    await failed.wait('the first try');
    await member.stop();
    assert.deepEqual(await lab.deadLetters(), []);
    lab.start();
    await lab.untilEffects(1);
  });

  test('makes its topic if nobody has written to it yet', async () => {
    const lab = await ConsumerLab.open(stack, { partitions: 0 });
    lab.start();
    await waitUntil('the topic', async () => (await lab.records()).length === 0);
    await lab.send([{ key: 'k', n: 1 }]);
    await lab.untilEffects(1);
  });

  test('that is stopped before it was started, or at once, ends', async () => {
    const lab = await ConsumerLab.open(stack);
    await lab.start().stop();
    await lab.member().stop();
  });
});
