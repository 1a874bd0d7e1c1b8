/**
 * `./ferry relay reset` heals what the relay refuses: a new epoch publishes from the outbox exactly what Kafka does not hold, also when it
 * is killed in the middle of that.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import type { ErrorCode } from '../../src/kernel/errors.ts';
import { relayNames } from '../../src/relay/names.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();

describe('a reset', () => {
  test('publishes what was written between a lost slot and the new one, each once', async (t) => {
    const lab = await publishedLab(t);
    await lab.sql('select pg_drop_replication_slot($1)', [relayNames(lab.config).slot]);
    await lab.write({ rows: 300, largestTransaction: 100 });
    await refuses(lab, 'RELAY_SLOT_MISSING');

    const reset = resetByCommand(lab);
    assert.equal(reset.status, 0, reset.stderr);
    await lab.stream();
    await lab.write({ rows: 100, largestTransaction: 50 });
    await lab.assertExactlyOnce();
  });

  test('killed while it publishes, goes on where it was', async (t) => {
    const lab = await publishedLab(t, { RELAY_BATCH_MAX_EVENTS: '50' });
    await lab.sql('select pg_drop_replication_slot($1)', [relayNames(lab.config).slot]);
    await lab.write({ rows: 400, largestTransaction: 100 });
    assert.equal(resetByCommand(lab).status, 0);
    for (const failPoint of ['after-send:3', 'after-end-txn:3', 'after-commit-before-confirm:1']) {
      lab.relay.start({ FERRY_FAIL_POINT: failPoint });
      await lab.relay.exited();
    }
    await lab.stream();
    await lab.assertExactlyOnce();
  });

  test('finds the events that are in the topics of earlier routes, also at the reset after the next', async (t) => {
    const lab = await publishedLab(t, { SUBJECT_NAMING: 'record' }); // a schema for every topic
    for (const name of ['shop.order', 'store.order']) {
      await lab.sql('select pg_drop_replication_slot($1)', [relayNames(lab.config).slot]);
      assert.equal(resetByCommand(lab).status, 0);
      await lab.stream(lab.relay, { TOPIC_ROUTES: `order=${name}` });
      const [id] = await lab.insert([{ aggregateId: 'new', tombstone: true }]);
      await lab.untilPublished(id);
      assert.equal(
        (await lab.records(`${lab.config.TOPIC_PREFIX}${name}`)).length,
        1,
        'events of another topic came again',
      );
      await lab.relay.stop();
    }
  });

  test('finds every event in Kafka after the checkpoint topic was lost, and publishes none again', async (t) => {
    const lab = await publishedLab(t);
    const before = (await lab.records(lab.topic('order'))).length;
    await lab.deleteTopic(relayNames(lab.config).checkpointTopic);
    await refuses(lab, 'RELAY_CHECKPOINT_MISSING');
    assert.equal(resetByCommand(lab).status, 0);
    assert.equal(resetByCommand(lab).status, 0, 'repeating it before the start changes nothing');
    await lab.stream();
    await lab.assertExactlyOnce();
    assert.equal((await lab.records(lab.topic('order'))).length, before);
  });

  test('of a database that was copied row by row is refused until its rows have transaction ids of the new server', async (t) => {
    const lab = await publishedLab(t);
    await lab.write({ rows: 50, largestTransaction: 20 });
    await lab.sql(
      `begin; set local session_replication_role = replica; update ferry.outbox set tx = (tx::text::bigint + 9000000000)::text::xid8; commit`,
    );
    await lab.sql('select pg_drop_replication_slot($1)', [relayNames(lab.config).slot]);
    assert.equal(resetByCommand(lab).status, 0);
    await refuses(lab, 'RELAY_ROWS_FOREIGN');
    const before = (await lab.records(lab.topic('order'))).length;

    const section = /^### `RELAY_ROWS_FOREIGN`$.*?^```sql$(.*?)^```$/ms.exec(
      readFileSync('docs/OPERATIONS.md', 'utf8'),
    );
    await lab.sql(section?.[1] ?? assert.fail('the runbook has no statements'));
    await lab.stream();
    await lab.assertExactlyOnce();
    assert.ok((await lab.records(lab.topic('order'))).length > before);
  });

  test('is refused while the relay runs', async (t) => {
    const lab = await openLab(t);
    await lab.stream();
    const reset = resetByCommand(lab);
    assert.equal(reset.status, 1);
    assert.match(reset.stderr, /stop it first/);
  });
});

async function openLab(t: TestContext, environment: Record<string, string> = {}): Promise<RelayLab> {
  const lab = await RelayLab.open(stack, environment);
  t.after(() => lab.close());
  return lab;
}

/** A relay that has published something and was stopped. */
async function publishedLab(t: TestContext, environment: Record<string, string> = {}): Promise<RelayLab> {
  const lab = await openLab(t, environment);
  await lab.stream();
  await lab.write({ rows: 300, largestTransaction: 100 });
  await lab.assertExactlyOnce();
  await lab.relay.stop();
  return lab;
}

async function refuses(lab: RelayLab, code: ErrorCode): Promise<void> {
  lab.relay.start();
  await lab.relay.waitForLog(`the refusal ${code}`, ({ err }) => (err as { code?: string } | undefined)?.code === code);
  await lab.relay.exited();
}

function resetByCommand(lab: RelayLab) {
  const args = ['src/main.ts', 'relay', 'reset', '--reason', 'test'];
  return spawnSync(process.execPath, args, { env: { ...process.env, ...lab.environment }, encoding: 'utf8' });
}
