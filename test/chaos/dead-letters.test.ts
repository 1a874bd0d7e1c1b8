/**
 * The dead-letter store with everybody killed at the moments that matter: the process that keeps it, and the consumer that takes dead letters
 * back. Each record is entered once, and each event has its effect once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retryLetters } from '../../src/ops/dead-letter-actions.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { untilConsumed } from '../support/consumer-group.ts';
import { FerryProcess } from '../support/processes.ts';
import { RecorderGroup } from '../support/recorder-group.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const EVENTS = 600;
/** Events of a few keys whose handler fails; the others go on without them. */
const THROWS = '-[0-9]*[37]/[2-5]$';
const LONG_MS = 120_000;

test('dead letters are entered once and taken back once, whoever is killed', async (t) => {
  const lab = await RelayLab.open(stack);
  const pool = createPool(lab.config, 'dead-letters', { max: 2 });
  const ops = new FerryProcess({ roles: 'ops', env: lab.environment });
  t.after(async () => {
    await ops.kill();
    await pool.end();
    await lab.close();
  });
  await lab.stream();
  await lab.write({ rows: EVENTS, largestTransaction: 200 });
  await lab.assertExactlyOnce();

  const poisoned = await RecorderGroup.open(lab, 'given-back', {
    ...{ throws: THROWS, onPoison: 'dead-letter', retry: { maxTries: 1, baseMs: 1, maxMs: 1 } },
  });
  const first = poisoned.newMember({ CONSUMER_SESSION_TIMEOUT_MS: '1000' });
  t.after(() => first.kill());
  await untilKilled(first, 'after-dead-letter-before-inbox:2'); // leaves a second copy
  first.start();
  await untilConsumed(lab.config, poisoned.group, [lab.topic('order')]);
  await first.stop();
  const inTopic = await poisoned.deadLetters();
  assert.ok(inTopic.size > 10);

  for (const point of ['before-letters-commit:1', 'after-letters-commit:1', 'before-letters-commit:2']) {
    await untilKilled(ops, point);
  }
  ops.start();
  const letters = async () => {
    const { rows } = await pool.query<{ event_id: string; copies: number; state: string }>(
      'select event_id, copies, state from ferry.dead_letter where consumer_group = $1',
      [poisoned.group],
    );
    return rows;
  };
  const total = [...inTopic.values()].reduce((sum, copies) => sum + copies, 0);
  const entered = async () => (await letters()).reduce((sum, { copies }) => sum + copies, 0) >= total;
  await waitUntil('all dead letters in the store', entered, { deadlineMs: LONG_MS });
  assert.deepEqual(new Map((await letters()).map(({ event_id: id, copies }) => [id, copies])), inTopic);
  assert.ok([...inTopic.values()].some((copies) => copies > 1));

  await ops.kill();
  const request = { filter: { ...NOTHING, group: poisoned.group }, limit: 1_000, reason: 'mended' };
  const done = await transaction(pool, (tx) => retryLetters(tx, { principal: 'test', requestId: null }, request));
  assert.deepEqual(done, { retried: inTopic.size, more: false });
  for (const point of ['after-owner-asked:1', 'after-owner-asked:4']) await untilKilled(ops, point);
  const mended = await RecorderGroup.open(lab, 'given-back');
  const member = mended.newMember({ CONSUMER_SESSION_TIMEOUT_MS: '1000' });
  t.after(() => member.kill());
  ops.start();
  for (const point of ['after-retry:1', 'after-retry:5']) await untilKilled(member, point);
  member.start();
  const allResolved = async () => (await letters()).every(({ state }) => state === 'resolved');
  await waitUntil('all being resolved', allResolved, { deadlineMs: LONG_MS });
  const { rows } = await pool.query<{ applied: number; events: number }>(
    `select count(*)::int as applied, count(distinct event_id)::int as events from public.recorded_event where consumer_group = $1`,
    [mended.group],
  );
  assert.deepEqual(rows, [{ applied: lab.rows, events: lab.rows }]);
});

const NOTHING = {
  ...{ type: null, code: null, topic: null, key: null, group: null, failedAfter: null, failedBefore: null },
};

async function untilKilled(victim: FerryProcess, failPoint: string): Promise<void> {
  victim.start({ FERRY_FAIL_POINT: failPoint });
  await victim.exited();
  assert.equal(victim.signal, 'SIGKILL', `${failPoint}: it ended otherwise:\n${victim.output.join('\n')}`);
}
