import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitForSagas } from '../../../src/cli/demo/saga-proof.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';

/** A database in which so many sagas have ended. */
const dbWith = (ended: number) => ({ query: async () => ({ rows: [{ ended }], rowCount: 1 }) }) as unknown as Queryable;
const limits = { timeoutMs: 1_000, onProgress: () => {} };

test('who waits for the sagas of an interrupted demo gets no answer that could be counted on', async () => {
  const interrupted = AbortSignal.abort(new Error('interrupted'));
  await assert.rejects(waitForSagas(dbWith(1), 2, { ...limits, signal: interrupted }), /interrupted/);
});

test('all have ended, or not in time', async () => {
  const { signal } = new AbortController();
  assert.equal(await waitForSagas(dbWith(2), 2, { ...limits, signal }), true);
  assert.equal(await waitForSagas(dbWith(1), 2, { ...limits, timeoutMs: -1, signal }), false);
});
