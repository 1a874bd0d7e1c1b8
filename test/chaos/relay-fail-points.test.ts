/**
 * The relay stopped at exactly the moments that matter: at each named fail point its process is killed, and where an answer can be lost,
 * an error is thrown instead, so that the same process must find out what became of its transaction. Each at several passings.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RELAY_FAIL_POINTS } from '../../src/kernel/fail-point.ts';
import { RelayLab, untilStreaming, type Writing } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();

/** Those that every relay passes; those of releases are in relay-parked.test.ts. */
type RelayFailPoint = Exclude<(typeof RELAY_FAIL_POINTS)[number], 'inside-key-release' | 'after-release-before-notes'>;

/** Passings at which the process dies: the first, soon after, and in full flow. */
const KILL_AT: Readonly<Record<RelayFailPoint, readonly number[]>> = {
  'after-receive': [1, 40, 400],
  'after-encode': [1, 3, 9],
  'after-send': [1, 2, 6],
  'after-end-txn': [1, 2, 6],
  'after-commit-before-confirm': [1, 4, 8],
  'while-reading-checkpoint': [1, 1],
  'inside-split-transaction': [1, 2, 4],
};

/**
 * What throwing there means:
 * - after-receive: the replication stream breaks in the middle of a transaction;
 * - after-encode: nothing was sent;
 * - after-send: EndTxn was never sent, so the transaction is aborted;
 * - after-end-txn: its answer was lost, and the transaction is committed;
 * - while-reading-checkpoint: Kafka broke after the relay had fenced.
 */
const THROW_AT: Partial<Readonly<Record<RelayFailPoint, readonly number[]>>> = {
  'after-receive': [3, 300],
  'after-encode': [2],
  'after-send': [1, 2, 7],
  'after-end-txn': [1, 2, 7],
  'while-reading-checkpoint': [1],
};

describe('the relay at its fail points', () => {
  for (const [point, passings] of Object.entries(KILL_AT)) {
    test(`killed ${point}`, async (t) => {
      const { lab, writing } = await busyLab(t);
      for (const nth of passings) {
        lab.relay.start({ FERRY_FAIL_POINT: `${point}:${nth}` });
        await lab.relay.exited();
        assert.equal(lab.relay.signal, 'SIGKILL', `passing ${nth} of ${point}: the relay ended otherwise`);
      }
      await lab.stream();
      await writing.stop();
      await lab.assertExactlyOnce();
    });
  }

  for (const [point, passings] of Object.entries(THROW_AT)) {
    test(`goes on after an error ${point}`, async (t) => {
      const { lab, writing } = await busyLab(t);
      for (const nth of passings) {
        lab.relay.start({ FERRY_FAIL_POINT: `${point}:${nth}:throw` });
        await lab.relay.waitForLog('the failure', (line) => JSON.stringify(line).includes(`fail point ${point}`));
        await untilStreaming(lab.relay);
        if (nth !== passings.at(-1)) await lab.relay.kill();
      }
      await writing.stop();
      await lab.assertExactlyOnce();
      assert.equal(await lab.relay.stop(), 0);
    });
  }
});

/** A lab whose writers write all the while, and whose batches are small enough to split their larger transactions. */
async function busyLab(t: { after(release: () => Promise<void>): void }): Promise<{ lab: RelayLab; writing: Writing }> {
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '60' });
  t.after(() => lab.close());
  return { lab, writing: lab.startWriting({ rowsPerSecond: 500, largestTransaction: 600 }) };
}
