/**
 * Replays while relay and runner are killed with SIGKILL, beside live traffic: each selected row is there once for each replay, with ordinals
 * without a gap, in order per key; the live events keep theirs; and a consumer that sees original ids again does nothing twice.
 *
 * REPLAY_ROWS, REPLAY_REPEATED and REPLAY_KILLS make it as large as one likes.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { sleep } from '../../src/kernel/deadline.ts';
import { REPLAY_FAIL_POINTS } from '../../src/kernel/fail-point.ts';
import { hasEnded } from '../../src/replay/states.ts';
import type { FerryProcess } from '../support/processes.ts';
import { createRandom, type Random } from '../support/random.ts';
import { RecorderGroup } from '../support/recorder-group.ts';
import { RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { EVERYTHING, ReplayLab } from '../support/replay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const size = (name: string, usual: number) => Number(process.env[name] ?? usual);
/** To the side topic, and of these with their original ids to where they were. */
const ROWS = size('REPLAY_ROWS', 3_000);
const REPEATED = size('REPLAY_REPEATED', 600);
const KILLS = size('REPLAY_KILLS', 5);
const DEADLINE_MS = 120_000 + ROWS * 5;

test('SIGKILL of relay and runner in the middle of replays', { timeout: 2 * DEADLINE_MS + 300_000 }, async (t) => {
  const { lab, replays, ops, random } = await open(t);
  const group = await RecorderGroup.open(lab, 'recorders');
  const member = group.newMember();
  t.after(() => member.kill());
  member.start();
  await lab.write({ rows: ROWS, largestTransaction: 1_500, writers: 4 });
  await lab.assertExactlyOnce(DEADLINE_MS);
  const old = await replays.rows();
  const writing = lab.startWriting({ rowsPerSecond: 50, largestTransaction: 300 });

  const startedAt = performance.now();
  const aside = `${lab.config.TOPIC_PREFIX}aside`;
  const toSide = await replays.start({ topic: aside, eventsPerSecond: Math.ceil(ROWS / 12) });
  const eventIds = old.slice(-REPEATED);
  const repeated = await replays.start({
    selection: { ...EVERYTHING, eventIds },
    eventsPerSecond: Math.ceil(REPEATED / 8),
  });
  await replays.until(toSide, 'publishing', ({ emitted }) => emitted > 0n, DEADLINE_MS);
  const inTheMiddle = await killAll(lab, ops, random, async () => !hasEnded((await replays.show(toSide)).state));
  const side = await replays.untilCompleted(toSide, DEADLINE_MS);
  const again = await replays.untilCompleted(repeated, DEADLINE_MS);
  const seconds = (performance.now() - startedAt) / 1000;
  await writing.stop();

  const rows = await replays.rows(`pg_visible_in_snapshot(tx, '${side.snapshot}'::pg_snapshot)`);
  await replays.assertReplayed(toSide, aside, rows);
  await replays.assertReplayed(repeated, lab.topic('order'), eventIds);
  const report = await lab.assertExactlyOnce(DEADLINE_MS);
  assert.deepEqual([report.replayed, side.emitted, again.emitted], [REPEATED, BigInt(rows.length), BigInt(REPEATED)]);
  const { applied } = await group.assertEffectivelyOnce();
  assert.equal(applied, lab.rows, 'a repeated event had an effect once more, or one has none');
  assert.ok(inTheMiddle >= Math.min(KILLS, 3), `only ${inTheMiddle} kills while it ran`);
  t.diagnostic(
    JSON.stringify({ rows: rows.length, repeated: REPEATED, inTheMiddle, seconds, outbox: report.outboxRows }),
  );
});

test('the runner dies at each of its moments', { timeout: 300_000 }, async (t) => {
  const { lab, replays, ops } = await open(t);
  await lab.write({ rows: 1_000, largestTransaction: 200 });
  await ops.kill();
  const rows = await replays.rows();
  for (const failPoint of REPLAY_FAIL_POINTS) {
    const aside = `${lab.config.TOPIC_PREFIX}${failPoint}`;
    const id = await replays.start({ topic: aside, eventsPerSecond: 400 }); // pages of a hundred
    for (let death = 0; death < 2; death++) {
      ops.start({ FERRY_FAIL_POINT: `${failPoint}:${death + 1}` });
      await ops.exited();
    }
    const { emitted } = await replays.show(id);
    assert.ok(emitted < BigInt(rows.length), 'it died when all was done');
    ops.start();
    await replays.untilCompleted(id);
    await replays.assertReplayed(id, aside, rows);
    await ops.kill();
  }
  await lab.assertExactlyOnce();
});

async function open(t: TestContext) {
  const seed = Math.floor(Math.random() * 2 ** 31);
  t.diagnostic(`seed ${seed}`);
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '150' });
  const replays = new ReplayLab(lab);
  t.after(async () => {
    await replays.close();
    await lab.close();
  });
  await lab.stream();
  const ops = lab.newProcess('ops');
  ops.start();
  return { lab, replays, ops, random: createRandom(seed) };
}

/** Kills runner and relay in turn and starts them again; resolves with how many of the kills found the replay under way. */
async function killAll(
  lab: RelayLab,
  ops: FerryProcess,
  random: Random,
  isUnderWay: () => Promise<boolean>,
): Promise<number> {
  let inTheMiddle = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = kill % 2 === 0 ? lab.relay : ops;
    if (victim === lab.relay) await untilStreaming(victim);
    await sleep(random.between(100, 1_000));
    if (await isUnderWay()) inTheMiddle += 1;
    await victim.kill();
    victim.start();
  }
  return inTheMiddle;
}
