/** Every wait has an end, and what lost the race does no harm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { backoffMs, DeadlineError, orAborted, sleep, withDeadline } from '../../../src/kernel/deadline.ts';

test('work that is done in time settles as it does', async () => {
  assert.equal(await withDeadline('adding', 10_000, Promise.resolve(3)), 3);
  await assert.rejects(withDeadline('adding', 10_000, Promise.reject(new Error('no'))), /no/);
});

test('work that is late is named, and its late failure is nobody’s unhandled rejection', async () => {
  const work = Promise.withResolvers<never>();
  await assert.rejects(withDeadline('the answer', 1, work.promise), (error) => {
    assert.ok(error instanceof DeadlineError);
    assert.equal(error.timeoutMs, 1);
    assert.match(error.message, /the answer did not happen within 1 ms/);
    return true;
  });
  work.reject(new Error('late'));
  await sleep(0); // an unhandled rejection would fail this test
});

test('a sleep says whether it was cut short', async () => {
  assert.equal(await sleep(1), true);
  assert.equal(await sleep(60_000, AbortSignal.abort()), false);
  const cut = new AbortController();
  const sleeping = sleep(60_000, cut.signal);
  cut.abort();
  assert.equal(await sleeping, false);
});

test('pauses grow to their limit, never beyond, and are never zero', () => {
  const settings = fc.record({ base: fc.integer({ min: 1, max: 1000 }), max: fc.integer({ min: 1, max: 60_000 }) });
  fc.assert(
    fc.property(fc.nat(10_000), settings, (attempt, { base, max }) => {
      const pause = backoffMs(attempt, base, max);
      const ceiling = Math.min(max, base * 2 ** Math.min(attempt, 30));
      assert.ok(pause >= 1 && pause <= Math.ceil(ceiling) && pause >= ceiling / 2, `${pause} of ${ceiling}`);
    }),
  );
});

test('work that a signal ends rejects with its reason, whatever the work does then', async () => {
  const abort = new AbortController();
  const work = Promise.withResolvers<never>();
  const ended = orAborted(work.promise, abort.signal);
  abort.abort(new Error('enough'));
  await assert.rejects(ended, /enough/);
  work.reject(new Error('late'));
  await sleep(0); // an unhandled rejection would fail this test
  await assert.rejects(orAborted(Promise.resolve(1), abort.signal), /enough/);
  await assert.rejects(orAborted(Promise.reject(new Error('no')), new AbortController().signal), /no/);
  assert.equal(await orAborted(Promise.resolve(1), new AbortController().signal), 1);
});
