/** What fails again and again is tried ever less often, also where a session fails only when it commits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { relayNames } from '../../src/relay/names.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import type { LogLine } from '../support/processes.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(1);

test('the pauses of a relay that streams and cannot commit grow, and begin anew once it has committed', async (t) => {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  await lab.stream();
  await lab.insert([{ aggregateId: 'before', payload: orderPlaced(random) }]);
  await lab.assertExactlyOnce();

  await limitCheckpoints(lab, '200');
  await lab.insert([{ aggregateId: 'meanwhile', payload: orderPlaced(random) }]);
  await lab.relay.waitForLog('a fourth attempt', (line) => isFailure(line) && Number(line.attempt) >= 3, 60_000);

  await limitCheckpoints(lab, '1048588');
  await lab.assertExactlyOnce();
  const failures = lab.relay.lines.filter(isFailure).length;
  await limitCheckpoints(lab, '200');
  const next = await waitUntil('the next failure', () => lab.relay.lines.filter(isFailure)[failures]);
  assert.equal(next.attempt, 0);
  await limitCheckpoints(lab, '1048588');
  await lab.assertExactlyOnce();
});

function isFailure({ msg }: LogLine): boolean {
  return msg === 'the relay lost a part and will try again';
}

/** Largest batch that the relay's checkpoint topic takes: with 200 no checkpoint, but the marker that aborts its transaction. */
async function limitCheckpoints(lab: RelayLab, maxMessageBytes: string): Promise<void> {
  const settings = { 'cleanup.policy': 'compact', 'max.message.bytes': maxMessageBytes };
  await lab.alterTopic(relayNames(lab.config).checkpointTopic, settings);
}
