/** The loop around work that is looked for again and again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Poller } from '../../../src/kernel/poller.ts';

test('turns follow each other without a pause while there is more, go on after a failure, and end with the turn that runs', async () => {
  const turns: number[] = [];
  const errors: string[] = [];
  const third = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const poller = new Poller({
    turn: async () => {
      turns.push(turns.length);
      if (turns.length === 2) throw new Error('away');
      if (turns.length < 3) return 0;
      third.resolve();
      await goOn.promise;
      return 3_600_000;
    },
    onError: ({ message }) => errors.push(message),
  });
  poller.start();
  poller.start();
  await third.promise;
  let ended = false;
  const stopped = poller.stop().then(() => {
    ended = true;
  });
  await new Promise(setImmediate);
  assert.equal(ended, false, 'a turn is running');
  goOn.resolve();
  await stopped;
  await poller.stop();
  assert.deepEqual([turns, errors], [[0, 1, 2], ['away']]);
});

test('one that never began stops at once, and does not begin afterwards', async () => {
  let turns = 0;
  const poller = new Poller({ turn: async () => ++turns, onError: assert.fail });
  await poller.stop();
  poller.start();
  await poller.stop();
  assert.equal(turns, 0);
});
