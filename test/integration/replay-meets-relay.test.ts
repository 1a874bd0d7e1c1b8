/** A replay where the relay is not as it was: a key of its records is parked, or a new epoch has begun. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { ReplayLab } from '../support/replay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(12);
const placed = (aggregateId: string, version: number) => ({ aggregateId, version, payload: orderPlaced(random) });

async function openLab(t: TestContext): Promise<{ lab: RelayLab; replays: ReplayLab }> {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  const replays = new ReplayLab(lab);
  t.after(() => replays.close());
  await lab.stream();
  lab.newProcess('ops').start();
  return { lab, replays };
}

test('a record of a parked key goes to the dead letters, and does not park what it repeats', {
  timeout: 300_000,
}, async (t) => {
  const { lab, replays } = await openLab(t);
  const published = await lab.insert([placed('parked', 1), placed('free', 1), placed('parked', 2)]);
  await lab.untilPublished(published.at(-1));
  const [poison] = await lab.insert([{ aggregateId: 'parked', version: 3, payload: { not: 'an order' } }]);
  await waitUntil('the dead letter', async () => (await lab.statusOf(poison)) === 'dead-lettered');
  lab.deadLetters = 1;

  const id = await replays.start();
  const job = await replays.untilCompleted(id);
  assert.deepEqual([job.selected, job.emitted, job.leftOut], [4n, 3n, 1n]);
  const ofReplay = async (topic: string) =>
    (await replays.records(id, topic)).map(({ headers }) => [
      headers.ferry_replay_ordinal,
      headers.ce_id,
      headers.error_code,
      headers.blocked_by,
    ]);
  assert.deepEqual(await ofReplay(lab.topic('order')), [['2', published[1], undefined, undefined]]);
  assert.deepEqual((await ofReplay(lab.deadLetterTopic('order'))).sort(), [
    ['1', published[0], 'KEY_PARKED', poison],
    ['3', published[2], 'KEY_PARKED', poison],
  ]);
  assert.deepEqual([await lab.statusOf(published[0]), await lab.statusOf(published[2])], ['published', 'published']);

  await lab.release('parked', { discard: true });
  await waitUntil('the key being free', async () => {
    const again = await replays.start();
    await replays.untilCompleted(again);
    return (await replays.records(again, lab.topic('order'))).length === 3;
  });
});

test('a new epoch pauses it and says why; resumed, it goes on behind what was emitted', {
  timeout: 300_000,
}, async (t) => {
  const { lab, replays } = await openLab(t);
  const ids = await lab.insert(Array.from({ length: 60 }, (_, i) => placed(`order-${i % 6}`, 1 + Math.floor(i / 6))));
  await lab.untilPublished(ids.at(-1));
  const id = await replays.start({ eventsPerSecond: 5 });
  await replays.until(id, 'having begun', ({ emitted }) => emitted > 0n);

  await lab.relay.stop();
  await lab.beginSecondEpoch();
  await lab.stream();
  const paused = await replays.until(id, 'having noticed', ({ state }) => state === 'paused');
  assert.equal(paused.errorCode, 'REPLAY_INTERRUPTED');
  assert.match(paused.error ?? '', /began epoch 2/);
  const emitted = Number(paused.emitted);
  assert.ok(emitted > 0 && emitted < ids.length, `${emitted} of ${ids.length} were emitted`);

  await replays.operate(id, 'resume');
  const job = await replays.untilCompleted(id, 120_000);
  assert.equal(Number(job.emitted), ids.length);
  const records = await replays.records(id, lab.topic('order'));
  const ordinals = records.map(({ headers }) => Number(headers.ferry_replay_ordinal)).sort((a, b) => a - b);
  assert.equal(new Set(ordinals).size, ordinals.length, 'an ordinal is there twice');
  const rest = Array.from({ length: ids.length - emitted }, (_, i) => emitted + 1 + i);
  assert.deepEqual(ordinals.slice(-rest.length), rest, 'all behind what was emitted in the lost slot');
  for (const { headers } of records) assert.equal(headers.ce_id, ids[Number(headers.ferry_replay_ordinal) - 1]);
});
