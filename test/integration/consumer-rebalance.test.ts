/** What is in flight when the group gives out its partitions anew: finished in time, or rolled back, so that nobody waits for it for long. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, mock, test } from 'node:test';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { ConsumerLab, type Counted } from '../support/consumer-lab.ts';
import { Signal, waitUntil } from '../support/signals.ts';
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

test('a member that its coordinator forgot, and that then fails to join again, does not go on outside of the group', async () => {
  const lab = await ConsumerLab.open(stack);
  const membership = spyOnMembership();
  lab.start({ settings: { sessionTimeoutMs: 1_000 } });
  await lab.send([{ key: 'k', n: 1 }]);
  await lab.untilDone();
  membership.failNextJoin();
  await membership.expel();
  await waitUntil('kafkajs being no member any more', () => membership.isGhost());
  await lab.send([{ key: 'k', n: 2 }]);
  await lab.untilDone({ deadlineMs: DEADLINE_MS });
  assert.deepEqual(await lab.effects(), ['k1', 'k2']);
});

interface KafkajsGroup {
  readonly groupId: string;
  readonly memberId: string | null;
  readonly coordinator: { leaveGroup(member: { groupId: string; memberId: string | null }): Promise<unknown> };
  joinAndSync(): Promise<void>;
}

/** The first group that kafkajs joins from now on, of which a test makes what a coordinator in trouble makes. */
function spyOnMembership() {
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/consumer/consumerGroup') as {
    prototype: KafkajsGroup;
  };
  const join = prototype.joinAndSync;
  let group: KafkajsGroup | undefined;
  let failing = false;
  const joining = mock.method(prototype, 'joinAndSync', async function (this: KafkajsGroup) {
    group ??= this;
    if (!failing) return join.call(this);
    failing = false;
    throw new Error('the coordinator is not available');
  });
  after(() => joining.mock.restore());
  return {
    failNextJoin: () => {
      failing = true;
    },
    /** Removes the member as the coordinator does when it has not heard of it. */
    expel: async () => {
      assert.ok(group);
      const { groupId, memberId, coordinator } = group;
      await coordinator.leaveGroup({ groupId, memberId });
    },
    /** Whether kafkajs goes on without an id. */
    isGhost: () => group?.memberId === null && !failing,
  };
}
