/** The relay killed with SIGKILL at random moments, also while it starts, under mixed transactions that are larger than its batches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../src/kernel/deadline.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const KILLS = 14;
/** From the fork to the first batch takes about 700 ms. */
const LATEST_KILL_WHILE_STARTING_MS = 900;
const LATEST_KILL_WHILE_STREAMING_MS = 300;

test('SIGKILL at random moments loses nothing, repeats nothing and keeps the order', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = createRandom(seed);
  t.diagnostic(`seed ${seed}`);
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '150' });
  t.after(() => lab.close());
  const writing = lab.startWriting({ rowsPerSecond: 800, largestTransaction: 1_500 });
  for (let kill = 0; kill < KILLS; kill++) {
    lab.relay.start();
    if (random.chance(0.3)) {
      await sleep(random.between(0, LATEST_KILL_WHILE_STARTING_MS));
    } else {
      await untilStreaming(lab.relay);
      await sleep(random.between(0, LATEST_KILL_WHILE_STREAMING_MS));
    }
    await lab.relay.kill();
  }
  const { transactions } = await writing.stop();
  await lab.stream();
  const report = await lab.assertExactlyOnce();
  t.diagnostic(`${report.outboxRows} rows in ${JSON.stringify(transactions)}`);
  const split = (await lab.checkpoints()).filter(({ partial }) => partial !== null);
  assert.ok(split.length > 0, 'no transaction was split: the batches were not small enough');
  assert.equal(await lab.relay.stop(), 0);
});
