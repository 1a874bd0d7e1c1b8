/** A schema changes while the relay runs and writers of both versions are live: every event is published, none is a dead letter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openEventLog } from '../../src/cli/event-log.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { orderCancelled } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { secondVersion } from '../support/second-schema.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(3);
const ROUNDS = 15;

test('version 2 of a schema is taken up while writers of both versions are live', async (t) => {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  await lab.stream();
  const writer = (aggregateId: string, extra: object) => () =>
    lab.insert([
      { aggregateId, type: 'commerce.OrderCancelled', payload: { ...orderCancelled(random), ...extra } },
      { aggregateId, type: 'commerce.OrderCancelled', payload: { ...orderCancelled(random), ...extra } },
    ]);
  const [writeFirst, writeSecond] = [writer('version-1', {}), writer('version-2', { channel: 'phone' })];
  for (let round = 0; round < ROUNDS; round++) await writeFirst();
  await lab.assertExactlyOnce(); // the relay knows version 1, and has no reason to ask again
  await pushAllSchemas({ ...lab.config, SCHEMAS_DIR: secondVersion(t) });
  for (let round = 0; round < ROUNDS; round++) await Promise.all([writeFirst(), writeSecond()]);
  await lab.assertExactlyOnce();

  const events = await openEventLog(lab.config);
  t.after(() => events.close());
  const channels = new Map<string, Set<unknown>>();
  const schemaIds = new Set<number>();
  for (const { key, value } of await lab.records(lab.topic('order'))) {
    assert.ok(key !== null && value !== null);
    const decoded = await events.decoder.decode(value);
    schemaIds.add(decoded.schemaId);
    const seen = channels.get(key.toString()) ?? new Set();
    channels.set(key.toString(), seen.add((decoded.value as { channel?: string }).channel));
  }
  assert.equal(schemaIds.size, 2);
  assert.deepEqual(channels.get('version-2'), new Set(['phone']));
  // before the push there was no such field; afterwards it has its default
  assert.deepEqual(channels.get('version-1'), new Set([undefined, 'web']));
});
