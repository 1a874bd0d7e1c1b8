/**
 * Postgres, Kafka and the registry stopped, killed and frozen while events are consumed. The members go on by themselves each time; at the
 * end each event has had its effect once, in the order of its key, and none was dead-lettered for what was no fault of its own.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, type TestContext, test } from 'node:test';
import type { PartName } from '../../src/embedded/part.ts';
import { sleep } from '../../src/kernel/deadline.ts';
import { orderCancelled, orderPlaced } from '../support/order-payloads.ts';
import type { FerryProcess, LogLine } from '../support/processes.ts';
import { createRandom } from '../support/random.ts';
import { RecorderGroup } from '../support/recorder-group.ts';
import { RelayLab, type Writing } from '../support/relay-lab.ts';
import { ownStack } from '../support/stack.ts';
import { seededRandom, shuffled, untilHealed, whileFrozen } from '../support/stack-faults.ts';

const stack = await ownStack();
afterEach(() => untilHealed(stack)); // a failed test may leave a part down

const SETTINGS = { CONSUMER_SESSION_TIMEOUT_MS: '2000', RELAY_BACKOFF_MAX_MS: '1000' };
const RESTARTS: ReadonlyArray<readonly [PartName, 'stop' | 'kill']> = [
  ['postgres', 'stop'],
  ['postgres', 'kill'],
  ['kafka', 'stop'],
  ['kafka', 'kill'],
  ['registry', 'kill'],
];
/** Longer than the group misses a member. */
const FROZEN_MS = 3_000;
const STOP_LIMIT_MS = 15_000;

interface Scene {
  readonly lab: RelayLab;
  readonly group: RecorderGroup;
  readonly members: readonly FerryProcess[];
  readonly writing: Writing;
}

describe('a part that goes away while events are consumed', () => {
  test('stopped or killed, in any order, and started again', async (t) => {
    const scene = await openScene(t);
    for (const [part, way] of shuffled(seededRandom(t), RESTARTS)) {
      const startedAt = performance.now();
      await stack.embedded.part(part)[way]();
      await stack.embedded.part(part).start();
      await untilApplying(scene);
      t.diagnostic(`${part} ${way}: applying again after ${Math.round(performance.now() - startedAt)} ms`);
    }
    await assertNothingHappened(scene);
  });

  test('a broker that freezes; a member that is stopped meanwhile ends all the same', async (t) => {
    const scene = await openScene(t);
    const [stopped] = scene.members;
    await whileFrozen(stack, 'kafka', async () => {
      await sleep(FROZEN_MS);
      const startedAt = performance.now();
      assert.equal(await stopped?.stop(), 0);
      const tookMs = Math.round(performance.now() - startedAt);
      t.diagnostic(`stopped within ${tookMs} ms`);
      assert.ok(tookMs < STOP_LIMIT_MS, `the stop took ${tookMs} ms`);
    });
    await untilApplying(scene);
    await assertNothingHappened(scene);
  });

  test('a registry that is down: known schemas go on, and who knows none waits', async (t) => {
    const scene = await openScene(t);
    await untilSchemasKnown(scene);
    await stack.embedded.part('registry').stop();
    await untilApplying(scene);
    await Promise.all(scene.members.map((member) => member.kill()));
    const newcomer = scene.group.newMember(SETTINGS);
    t.after(() => newcomer.kill());
    newcomer.start();
    await newcomer.waitForLog('the registry being missed', (line) => line.code === 'REGISTRY_UNAVAILABLE');
    await stack.embedded.part('registry').start();
    await untilApplying(scene);
    await assertNothingHappened(scene);
  });
});

/** Two members of a group that apply what is being written. */
async function openScene(t: TestContext): Promise<Scene> {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  await lab.stream();
  const group = await RecorderGroup.open(lab, 'recorders');
  const members = [1, 2].map(() => group.newMember(SETTINGS));
  t.after(() => Promise.all(members.map((member) => member.kill())));
  for (const member of members) member.start();
  const scene = { lab, group, members, writing: lab.startWriting({ rowsPerSecond: 200, largestTransaction: 300 }) };
  await untilApplying(scene);
  return scene;
}

const KNOWN_KEYS = 60;

/** Both types of events have come to each of the members, and so through the relay: none of them has to ask for a schema any more. */
async function untilSchemasKnown({ lab, group, members }: Scene): Promise<void> {
  const hasShare = ({ msg, partitions }: LogLine) => {
    const share = Object.values(partitions ?? {}).flat().length;
    return msg === 'the group has given out its partitions' && share > 0 && share < lab.config.TOPIC_PARTITIONS;
  };
  await Promise.all(members.map((member) => member.waitForLog('a share of the partitions', hasShare)));
  const random = createRandom(1);
  const events = Array.from({ length: KNOWN_KEYS }, (_, key) => [
    { aggregateId: `known-${key}`, version: 1, payload: orderPlaced(random) },
    { aggregateId: `known-${key}`, version: 2, type: 'commerce.OrderCancelled', payload: orderCancelled(random) },
  ]);
  for (const id of await lab.insert(events.flat())) await group.untilApplied(id);
}

let markers = 0;

/** An event that is committed now gets through. */
async function untilApplying({ lab, group }: Pick<Scene, 'lab' | 'group'>): Promise<void> {
  const [id] = await lab.insert([{ aggregateId: 'marker', version: ++markers, payload: orderPlaced(createRandom(1)) }]);
  await group.untilApplied(id);
}

async function assertNothingHappened({ lab, group, writing }: Scene): Promise<void> {
  await writing.stop();
  await untilHealed(stack);
  await lab.assertExactlyOnce();
  assert.deepEqual(await group.assertEffectivelyOnce(), { applied: lab.rows, deadLettered: 0 });
}
