/** The gate before the registry, on a clock of its own: how often it asks, and for whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RefreshGate } from '../../../src/registry/refresh-gate.ts';

/** A clock that moves only when something sleeps on it. */
class ManualClock {
  now = 0;
  nowMs = (): number => this.now;
  sleep = async (ms: number): Promise<void> => {
    await Promise.resolve();
    this.now += ms;
  };
}

const never = (): boolean => false;

function setUp() {
  const clock = new ManualClock();
  const asked: number[] = [];
  let answer: () => Promise<boolean> = async () => true;
  const request = async (): Promise<boolean> => {
    asked.push(clock.now);
    return answer();
  };
  const gate = new RefreshGate(clock);
  return { clock, asked, gate, request, answers: (next: () => Promise<boolean>) => (answer = next) };
}

test('callers at the same time share one request, sent after all of them asked', async () => {
  const { gate, asked, request, clock } = setUp();
  const first = gate.run('k', request, never);
  const others = [gate.run('k', request, never), gate.run('k', request, never)];
  assert.deepEqual(await Promise.all([first, ...others]), [true, true, true]);
  assert.deepEqual(asked, [0, 1_000], 'the first at once; the others’ own, a second later');
  assert.equal(clock.now, 1_000);
});

test('a caller that the request in flight satisfied does not ask again', async () => {
  const { gate, asked, request } = setUp();
  let known = false;
  const first = gate.run('k', async () => (known = await request()), never);
  assert.equal(await gate.run('k', request, () => known), true);
  await first;
  assert.deepEqual(asked, [0]);
});

test('keys do not wait for each other', async () => {
  const { gate, asked, request } = setUp();
  await Promise.all([gate.run('a', request, never), gate.run('b', request, never)]);
  assert.deepEqual(asked, [0, 0]);
});

test('a flood that teaches nothing stops waiting, and still asks once a second', async () => {
  const { gate, asked, request, clock, answers } = setUp();
  answers(async () => false);
  for (let i = 0; i < 100; i++) assert.equal(await gate.run('k', request, never), false);
  assert.deepEqual(asked, [0, 1_000, 2_000]);
  clock.now = 3_000;
  for (let i = 0; i < 100; i++) await gate.run('k', request, never);
  assert.deepEqual(asked, [0, 1_000, 2_000, 3_000]);
  clock.now = 20_000; // the flood is over: waiting is worth it again
  await gate.run('k', request, never);
  await gate.run('k', request, never);
  assert.deepEqual(asked.slice(4), [20_000, 21_000]);
});

test('a failure counts for its second, then the registry is asked again', async () => {
  const { gate, asked, request, clock, answers } = setUp();
  answers(async () => Promise.reject(new Error('down')));
  await assert.rejects(gate.run('k', request, never), /down/);
  await assert.rejects(gate.run('k', request, never), /down/);
  assert.deepEqual(asked, [0]);
  clock.now = 1_000;
  answers(async () => true);
  assert.equal(await gate.run('k', request, never), true);
  assert.deepEqual(asked, [0, 1_000]);
});

test('who says that the answer has changed gets one asked for since, even in a flood; many who say so share it', async () => {
  const { gate, asked, request, clock, answers } = setUp();
  answers(async () => false);
  for (let i = 0; i < 4; i++) await gate.run('k', request, never);
  const before = asked.length;
  answers(async () => true);
  const since = clock.now;
  assert.equal(await gate.run('k', request, never, since), true);
  assert.equal(asked.length, before + 1);
  answers(async () => false);
  const later = clock.now + 1;
  clock.now += 1;
  const answered = [];
  for (let i = 0; i < 50; i++) answered.push(await gate.run('k', request, never, later));
  assert.equal(asked.length, before + 2, 'one question for all that were there before it');
  assert.ok(answered.every((learnt) => !learnt));
});
