import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Broadcast } from '../../../src/kernel/broadcast.ts';

describe('a broadcast', () => {
  test('wakes everybody who waits, and nobody who comes later', async () => {
    const broadcast = new Broadcast();
    const woken: string[] = [];
    const waiting = ['a', 'b'].map((name) => broadcast.wait(null).then(() => woken.push(name)));
    broadcast.wake();
    const later = broadcast.wait(null).then(() => woken.push('later'));
    await Promise.all(waiting);
    assert.deepEqual(woken, ['a', 'b']);
    broadcast.wake();
    await later;
  });

  test('ends a wait after its time-out, and only that one', async () => {
    const broadcast = new Broadcast();
    let woken = false;
    const other = broadcast.wait(60_000).then(() => {
      woken = true;
    });
    await broadcast.wait(1);
    assert.equal(woken, false);
    broadcast.wake(); // clears the other's timer, which would keep this process for a minute
    await other;
  });

  test('may be woken when nobody waits', () => {
    new Broadcast().wake();
  });
});
