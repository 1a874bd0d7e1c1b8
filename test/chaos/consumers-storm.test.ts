/**
 * Members of a consumer group that join and leave every second, by SIGKILL and by SIGTERM, under load: each event still has its effect once,
 * in the order of its key, and handlers that fail or never end hold up nobody but their own keys.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { stormUntil } from '../support/consumer-group.ts';
import { createRandom } from '../support/random.ts';
import { RecorderGroup } from '../support/recorder-group.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const STORM_MS = 8_000;
/** What the group should get done meanwhile, or the storm goes on. */
const APPLIED_IN_STORM = 500;
const EVERY_MS = 1_000;
/** So that a member that was killed is missed within the storm; in production it is longer. */
const SETTINGS = { CONSUMER_SESSION_TIMEOUT_MS: '1500' };
/** Events whose handler fails, of keys whose other events it could apply. */
const THROWS = '-[12]7/[3-5]$';
const HANGS = '-[12]9/[3-5]$';

describe('a storm of rebalances', () => {
  test('each event has its effect once, in the order of its key', async (t) => {
    const lab = await openLab(t);
    const group = await RecorderGroup.open(lab, 'recorders');
    await rage(t, lab, group);
    assert.deepEqual(await group.assertEffectivelyOnce(), { applied: lab.rows, deadLettered: 0 });
  });

  test('events that fail or never end are dead-lettered with all that follow in their key, and nothing else is', async (t) => {
    const lab = await openLab(t);
    const retry = { maxTries: 3, baseMs: 20, maxMs: 200 };
    const group = await RecorderGroup.open(lab, 'poisoned', {
      throws: THROWS,
      hangs: HANGS,
      handlerTimeoutMs: 300,
      retry,
    });
    await rage(t, lab, group);
    const { applied, deadLettered } = await group.assertEffectivelyOnce();
    assert.equal(applied + deadLettered, lab.rows);
    const poisoned = await group.poisonedEvents();
    assert.ok(poisoned.length > 0, 'no event was poisoned');
    assert.deepEqual([...(await group.deadLetters()).keys()].sort(), poisoned);
  });
});

async function openLab(t: TestContext): Promise<RelayLab> {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  await lab.stream();
  return lab;
}

async function rage(t: TestContext, lab: RelayLab, group: RecorderGroup): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const members = [1, 2, 3].map(() => group.newMember(SETTINGS));
  t.after(() => Promise.all(members.map((member) => member.kill())));
  const writing = lab.startWriting({ rowsPerSecond: 400, largestTransaction: 500 });
  const endsAt = performance.now() + STORM_MS;
  const isEnough = async () => performance.now() > endsAt && (await group.applied()) > APPLIED_IN_STORM;
  const report = await stormUntil(isEnough, members, createRandom(seed), EVERY_MS);
  const appliedInStorm = await group.applied();
  await writing.stop();
  await lab.assertExactlyOnce(); // what the relay has not published yet nobody can have applied
  t.diagnostic(`seed ${seed}: ${JSON.stringify({ ...report, appliedInStorm, events: lab.rows })}`);
  assert.ok(report.kills + report.stops > 0, 'nobody left');
}
