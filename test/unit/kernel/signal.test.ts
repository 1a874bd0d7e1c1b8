/** A signal wakes its one waiter and forgets no notification. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Signal } from '../../../src/kernel/signal.ts';

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), turn(false)]);
}

test('a waiter is woken by the next notification, and not before', async () => {
  const signal = new Signal();
  const waiting = signal.wait();
  assert.equal(await isSettled(waiting), false);
  signal.notify();
  assert.equal(await isSettled(waiting), true);
});

test('a notification that comes before the wait is remembered, several as one', async () => {
  const signal = new Signal();
  signal.notify();
  signal.notify();
  assert.equal(await isSettled(signal.wait()), true);
  assert.equal(await isSettled(signal.wait()), false);
});

test('one that comes between being woken and going on is not lost to a loop that looks again', async () => {
  const signal = new Signal();
  const queue: number[] = [];
  const taken: number[] = [];
  const loop = (async () => {
    while (taken.length < 100) {
      const item = queue.shift();
      if (item === undefined) await signal.wait();
      else taken.push(item);
    }
  })();
  for (let i = 0; i < 100; i++) {
    queue.push(i);
    signal.notify();
    if (i % 3 === 0) await null;
    if (i % 7 === 0) await turn();
  }
  await loop;
  assert.equal(taken.length, 100);
});

test('a second waiter is refused', async () => {
  const signal = new Signal();
  const first = signal.wait();
  await assert.rejects(signal.wait(), /one waiter/);
  signal.notify();
  await first;
});
