/**
 * A member of a consumer group stopped at exactly the moments that matter: killed at each named fail point, and where an answer can be lost
 * an error thrown instead, so that the same process must find out what became of its transaction. Each at several passings; whatever it was,
 * each event has its effect once, in the order of its key.
 */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { CONSUMER_FAIL_POINTS } from '../../src/kernel/fail-point.ts';
import { releaseKey } from '../../src/ops/parked-keys.ts';
import { createPool } from '../../src/postgres/connection.ts';
import type { FerryProcess } from '../support/processes.ts';
import { type Behaviour, RecorderGroup } from '../support/recorder-group.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const EVENTS = 1_500;
/** So that the next member need not wait long for one that was killed. */
const SETTINGS = { CONSUMER_SESSION_TIMEOUT_MS: '1000' };
/** Events of a few keys whose handler fails. */
const THROWS = '-[12]7/[3-5]$';
const POISONED: Behaviour = { throws: THROWS, retry: { maxTries: 2, baseMs: 10, maxMs: 100 } };

type ConsumerFailPoint = (typeof CONSUMER_FAIL_POINTS)[number];
/** Passings at which the member dies: the first, and in full flow. */
const PASSINGS: Readonly<Record<Exclude<ConsumerFailPoint, 'inside-release' | 'after-retry'>, readonly number[]>> = {
  'before-handler': [1, 300],
  'after-handler': [1, 300],
  'after-commit-before-offset': [1, 3],
  'after-dead-letter-before-inbox': [1, 4],
};
/** Passing at which the last member of each gets an error instead; it goes on. */
const THROW_AT = 2;

describe('a consumer at its fail points', { concurrency: 3 }, () => {
  let lab: RelayLab;

  before(async () => {
    lab = await RelayLab.open(stack);
    await lab.stream();
    await lab.write({ rows: EVENTS, largestTransaction: 500 });
    await lab.assertExactlyOnce();
  });
  after(() => lab.close());

  for (const [point, passings] of Object.entries(PASSINGS)) {
    const poisoned = point === 'after-dead-letter-before-inbox';
    const behaviour = poisoned ? POISONED : {};

    test(`${point}: killed, and an error thrown`, async (t) => {
      const group = await RecorderGroup.open(lab, point, behaviour);
      const member = startable(t, group);
      for (const nth of passings) await untilKilled(member, `${point}:${nth}`);
      member.start({ FERRY_FAIL_POINT: `${point}:${THROW_AT}:throw` });
      await assertAllDone(group);
      assert.equal(await member.stop(), 0);
      const twice = [...(await group.deadLetters()).values()].filter((copies) => copies > 1);
      assert.equal(twice.length > 0, poisoned, 'only who dies between dead letter and inbox leaves a copy');
    });
  }

  test('killed inside-release: the released keys are applied in their order, then their newer events', async (t) => {
    const poisoned = await RecorderGroup.open(lab, 'released', POISONED);
    const first = startable(t, poisoned);
    first.start();
    await assertAllDone(poisoned);
    await first.stop();
    await releaseAll(poisoned.group);
    const mended = await RecorderGroup.open(lab, 'released');
    const member = startable(t, mended);
    for (const nth of [1, 8]) await untilKilled(member, `inside-release:${nth}`);
    member.start();
    const noneIsParked = async () =>
      (await lab.sql('select from ferry.parked_key where consumer_group = $1', [mended.group])).rowCount === 0;
    await waitUntil('the keys being released', noneIsParked);
    assert.deepEqual(await mended.assertEffectivelyOnce({ released: true }), { applied: lab.rows, deadLettered: 0 });
    assert.equal(await member.stop(), 0);
  });

  /** Each event is applied, or poisoned or behind a poisoned one and in the dead-letter topic. */
  async function assertAllDone(group: RecorderGroup): Promise<void> {
    const { applied, deadLettered } = await group.assertEffectivelyOnce();
    assert.equal(applied + deadLettered, lab.rows);
    assert.deepEqual([...(await group.deadLetters()).keys()].sort(), await group.poisonedEvents());
  }

  async function releaseAll(group: string): Promise<void> {
    const pool = createPool(lab.config, 'release', { max: 1 });
    const { rows } = await pool.query<{ topic: string; key: string }>(
      `select topic, convert_from(key, 'UTF8') as key from ferry.parked_key where consumer_group = $1`,
      [group],
    );
    assert.ok(rows.length > 1);
    for (const parked of rows) {
      const request = { group, ...parked, discard: false, reason: 'mended' };
      await releaseKey(pool, { principal: 'test', requestId: null }, { ...request, relay: null });
    }
    await pool.end();
  }
});

function startable(t: TestContext, group: RecorderGroup): FerryProcess {
  const member = group.newMember(SETTINGS);
  t.after(() => member.kill());
  return member;
}

async function untilKilled(member: FerryProcess, failPoint: string): Promise<void> {
  member.start({ FERRY_FAIL_POINT: failPoint });
  await member.exited();
  assert.equal(member.signal, 'SIGKILL', `${failPoint}: it ended otherwise:\n${member.output.join('\n')}`);
}
