/** Consumers killed again and again while events flow: the projection still counts each event once. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startService } from '../../src/app.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import type { RunningService } from '../../src/cli/service.ts';
import { FerryProcess } from '../support/processes.ts';
import { openProof, type Proof } from '../support/proof.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';
import { runWorkload, type WorkloadResult } from '../support/workload.ts';

const stack = await testStack();
const KILLS = 4;

describe('the projection under SIGKILL', () => {
  let proof: Proof;
  let relay: RunningService;

  before(async () => {
    await pushAllSchemas(stack.config);
    proof = await openProof(stack.config);
    relay = await startService({ ...stack.config, FERRY_ROLES: 'relay', LOG_LEVEL: 'error' });
  });
  after(async () => {
    await relay.stop();
    await proof.close();
  });

  async function applied(): Promise<number> {
    const { rows } = await proof.pool.query<{ count: number }>('select count(*)::int as count from ferry.inbox');
    return rows[0]?.count ?? 0;
  }

  test('each event has its effect once', async () => {
    const members = [1, 2].map(() => new FerryProcess({ roles: 'projection', env: stack.environment }));
    const over = new AbortController();
    const writing = runWorkload({
      databaseUrl: stack.databaseUrl,
      signal: over.signal,
      writers: 2,
      largestTransaction: 1_000,
    });
    try {
      for (const member of members) member.start();
      for (let kill = 0; kill < KILLS; kill++) {
        const goal = (await applied()) + 200;
        await waitUntil('more events being applied', async () => (await applied()) >= goal, { deadlineMs: 90_000 });
        const member = members[kill % members.length];
        await member?.kill();
        member?.start();
      }
      over.abort();
      await assertProjection(await writing);
      for (const member of members) assert.equal(await member.stop(), 0);
    } finally {
      over.abort();
      for (const member of members) await member.kill();
    }
  });

  async function assertProjection({ committedRows, seed }: WorkloadResult): Promise<void> {
    await proof.assertSound({ rows: committedRows });
    await waitUntil('every event to be applied', async () => (await applied()) === committedRows, {
      deadlineMs: 90_000,
    });
    const { rows } = await proof.pool.query(
      `select (select sum(placed + cancelled) from commerce.orders_per_customer)::int as events,
              (select sum(placed_total + cancelled_total) from commerce.orders_per_customer)::text as kept,
              (select sum((payload->>'total')::numeric) from ferry.outbox)::text as written`,
    );
    assert.equal(rows[0]?.events, committedRows, `seed ${seed}`);
    assert.equal(rows[0]?.kept, rows[0]?.written);
  }
});
