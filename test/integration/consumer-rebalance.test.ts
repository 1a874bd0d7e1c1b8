/** What is in flight when the group gives out its partitions anew: finished in time, or rolled back, so that nobody waits for it for long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { ConsumerLab, type Counted } from '../support/consumer-lab.ts';
import { Signal } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const SETTINGS = { stopTimeoutMs: 500, handlerTimeoutMs: 300_000 };
/** Postgres itself would end the transaction, idle as it is, after 30 s. */
const DEADLINE_MS = 20_000;

test('a handler that does not end is rolled back after a rebalance, and whoever has the partition then applies its event', async () => {
  const lab = await ConsumerLab.open(stack);
  const stuck = new Signal();
  let calls = 0;
  const handle = async (event: ConsumedEvent<Counted>, tx: Queryable) => {
    await lab.effect(event, tx);
    calls += 1;
    if (calls > 1) return;
    stuck.fire();
    await new Promise(() => {});
  };
  lab.start({ handle, settings: SETTINGS });
  await lab.send([{ key: 'k', n: 1 }]);
  await stuck.wait('the handler being called');
  lab.start({ handle, settings: SETTINGS });
  await lab.untilEffects(1, { deadlineMs: DEADLINE_MS });
  await lab.untilDone();
  assert.deepEqual(await lab.effects(), ['k1']);
  assert.deepEqual(await lab.deadLetters(), []);
  assert.equal(calls, 2);
});
