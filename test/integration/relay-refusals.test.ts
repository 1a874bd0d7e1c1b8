/**
 * When going on could lose or repeat events, the relay refuses: it ends with exit code 1, its log names the code and the remedy, nothing is
 * published, and starting it again changes nothing of that.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { ERRORS, type ErrorCode } from '../../src/kernel/errors.ts';
import { relayNames } from '../../src/relay/names.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import type { FerryProcess } from '../support/processes.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { startOwnPostgres } from '../support/relay-postgres.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(1);
const REFUSED = 'the relay refuses to go on';

describe('the relay refuses', () => {
  test('a slot that was dropped', async (t) => {
    const lab = await stoppedLab(t);
    await lab.sql('select pg_drop_replication_slot($1)', [slotOf(lab)]);
    await insertOrders(lab, 3);
    await assertRefused(lab, 'RELAY_SLOT_MISSING');
  });

  test('a slot that was dropped and made anew', async (t) => {
    const lab = await stoppedLab(t);
    await lab.sql('select pg_drop_replication_slot($1)', [slotOf(lab)]);
    await insertOrders(lab, 3);
    await lab.sql(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [slotOf(lab)]);
    await assertRefused(lab, 'RELAY_SLOT_RECREATED');
  });

  test('a checkpoint topic that was deleted', async (t) => {
    const lab = await stoppedLab(t);
    await lab.deleteTopic(relayNames(lab.config).checkpointTopic);
    await insertOrders(lab, 3);
    await assertRefused(lab, 'RELAY_CHECKPOINT_MISSING');
  });

  test('a topic that was deleted and made anew', async (t) => {
    const lab = await stoppedLab(t);
    const topic = lab.topic('order');
    await lab.administer(async (admin) => {
      await admin.deleteTopics({ topics: [topic] });
      await admin.createTopics({ topics: [{ topic, numPartitions: 6 }], waitForLeaders: true });
    });
    await insertOrders(lab, 3);
    await assertRefused(lab, 'RELAY_PARTITIONS_CHANGED');
  });

  test('a topic that was given more partitions', async (t) => {
    const lab = await stoppedLab(t);
    const topic = lab.topic('order');
    await lab.administer((admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 8 }] }));
    await insertOrders(lab, 3);
    await assertRefused(lab, 'RELAY_PARTITIONS_CHANGED');
  });

  test('a topic that would refuse a batch of its size', async (t) => {
    const lab = await stoppedLab(t);
    await lab.alterTopic(lab.topic('order'), { 'max.message.bytes': '500000' });
    await insertOrders(lab, 3);
    await assertRefused(lab, 'RELAY_CONFIGURATION');
  });

  test('a checkpoint topic that deletes by age', async (t) => {
    const lab = await stoppedLab(t);
    await lab.alterTopic(relayNames(lab.config).checkpointTopic, { 'cleanup.policy': 'delete' });
    await assertRefused(lab, 'RELAY_CONFIGURATION');
  });

  test('a publication that is missing, at the start', async (t) => {
    const lab = await stoppedLab(t);
    await lab.sql('drop publication ferry_outbox');
    await assertRefused(lab, 'RELAY_PUBLICATION_MISSING');
  });

  test('a publication that is dropped while it streams', async (t) => {
    const lab = await publishingLab(t);
    await lab.sql('drop publication ferry_outbox');
    await insertOrders(lab, 3);
    await untilRefused(lab.relay);
    assertRefusal(lab.relay, 'RELAY_PUBLICATION_MISSING');
  });

  test('a publication that was dropped and made anew: rows written in between are in no stream', async (t) => {
    const lab = await stoppedLab(t);
    await lab.sql('drop publication ferry_outbox');
    await insertOrders(lab, 3);
    await lab.sql(`select ferry.ensure_publication('ferry_outbox')`);
    await assertRefused(lab, 'RELAY_PUBLICATION_CHANGED');
  });

  test('a slot name that belongs to another database of the server', async (t) => {
    const lab = await stoppedLab(t);
    const other = await RelayLab.open(stack, { RELAY_SLOT: slotOf(lab) });
    t.after(() => other.close());
    await insertOrders(other, 3);
    await assertRefused(other, 'RELAY_CONFIGURATION');
    await insertOrders(lab, 3);
    await lab.stream();
    await lab.assertExactlyOnce(); // its slot is where it was
  });

  test('the checkpoint of another database, and leaves its relay undisturbed', async (t) => {
    const lab = await publishingLab(t);
    const { RELAY_NAME = '', TOPIC_PREFIX = '' } = lab.environment;
    const other = await RelayLab.open(stack, { RELAY_NAME, TOPIC_PREFIX, RELAY_SLOT: `${slotOf(lab)}_other` });
    t.after(() => other.close());
    await assertStrangerRefused(lab, other);
  });

  test('the checkpoint of another server, and leaves its relay undisturbed', async (t) => {
    const lab = await publishingLab(t);
    const { RELAY_NAME = '', TOPIC_PREFIX = '' } = lab.environment;
    const server = await startOwnPostgres();
    t.after(() => server.close());
    const other = await RelayLab.open(stack, { RELAY_NAME, TOPIC_PREFIX, DATABASE_URL: server.databaseUrl });
    t.after(() => other.close());
    await assertStrangerRefused(lab, other);
  });
});

test('the relay refuses a database that went back, also when it has grown past the checkpoint since', async (t) => {
  const server = await startOwnPostgres();
  t.after(() => server.close());
  const lab = await publishingLab(t, { DATABASE_URL: server.databaseUrl });
  assert.equal(await lab.relay.stop(), 0);
  await server.backUp();
  await lab.stream();
  await insertOrders(lab, 50);
  await lab.assertExactlyOnce();
  assert.equal(await lab.relay.stop(), 0);
  await server.restore();
  await assertRefused(lab, 'RELAY_CHECKPOINT_AHEAD');
  await insertOrders(lab, 3_000);
  await assertRefused(lab, 'RELAY_HISTORY_DIVERGED');
});

test('the relay waits for a commit that it has published and a synchronous standby has not', async (t) => {
  const server = await startOwnPostgres();
  t.after(() => server.close());
  const lab = await publishingLab(t, { DATABASE_URL: server.databaseUrl });
  await lab.requireStandby('away');
  const before = (await lab.records(lab.topic('order'))).length;
  const hanging = insertOrders(lab, 1);
  await waitUntil('its record', async () => (await lab.records(lab.topic('order'))).length > before);
  await lab.relay.kill();
  const { rows } = await lab.sql<{ now: string }>('select clock_timestamp()::text as now');
  lab.relay.start();
  await waitUntil('the relay waiting too', async () => {
    assert.equal(lab.relay.exitCode, null, 'it refused');
    const waiting = await lab.sql(
      `select from pg_stat_activity where wait_event = 'SyncRep' and backend_start > $1::timestamptz`,
      [rows[0]?.now],
    );
    return waiting.rowCount !== 0;
  });
  await lab.requireStandby('');
  await hanging;
  await lab.relay.waitForLog('streaming', ({ msg }) => msg === 'streaming');
  await lab.assertExactlyOnce();
});

/** A lab whose relay streams and has published something. */
async function publishingLab(t: TestContext, environment: Record<string, string> = {}): Promise<RelayLab> {
  const lab = await RelayLab.open(stack, environment);
  t.after(() => lab.close());
  await lab.stream();
  await insertOrders(lab, 20);
  await lab.assertExactlyOnce();
  return lab;
}

async function stoppedLab(t: TestContext): Promise<RelayLab> {
  const lab = await publishingLab(t);
  assert.equal(await lab.relay.stop(), 0);
  return lab;
}

async function insertOrders(lab: RelayLab, count: number): Promise<void> {
  await lab.insert(
    Array.from({ length: count }, (_, i) => ({ aggregateId: `order-${i % 7}`, payload: orderPlaced(random) })),
  );
}

function slotOf(lab: RelayLab): string {
  return relayNames(lab.config).slot;
}

/** Starts it twice: a refusal must not have changed what it is about. */
async function assertRefused(lab: RelayLab, code: ErrorCode): Promise<void> {
  const before = (await lab.records(lab.topic('order'))).length;
  for (let start = 0; start < 2; start++) {
    lab.relay.start();
    await untilRefused(lab.relay);
    assertRefusal(lab.relay, code);
  }
  assert.equal((await lab.records(lab.topic('order'))).length, before, 'something was published');
}

async function untilRefused(relay: FerryProcess): Promise<void> {
  await relay.waitForLog('the refusal', ({ msg }) => msg === REFUSED);
  await relay.exited();
}

function assertRefusal(relay: FerryProcess, code: ErrorCode): void {
  const told = [...relay.lines.slice(-5).map((line) => JSON.stringify(line)), ...relay.output].join('\n');
  assert.equal(relay.exitCode, 1, told);
  const refusal = relay.lines.find(({ msg }) => msg === REFUSED);
  assert.equal((refusal?.err as { code?: string } | undefined)?.code, code, told);
  assert.equal(refusal?.remedy, ERRORS[code].remedy);
  assert.ok(relay.output.join('\n').includes(ERRORS[code].remedy), `standard error tells the remedy:\n${told}`);
}

/** `stranger` has the relay name and topics of `lab` by mistake. */
async function assertStrangerRefused(lab: RelayLab, stranger: RelayLab): Promise<void> {
  await insertOrders(stranger, 3);
  await assertRefused(stranger, 'RELAY_IDENTITY_MISMATCH');
  await insertOrders(lab, 20);
  await lab.assertExactlyOnce();
  const sessions = lab.relay.lines.filter(({ msg }) => msg === 'streaming');
  assert.equal(sessions.length, 1, 'the first relay was disturbed');
}
