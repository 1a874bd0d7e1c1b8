/**
 * Ferry's own projection over a larger backlog while its consumers are killed and rebalanced throughout: it equals what SQL computes from the
 * outbox. `bench/consumers.ts` does the same with half a million events.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ordersPerCustomerSource } from '../../src/domain/commerce/orders-per-customer.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import { stormUntil, untilConsumed } from '../support/consumer-group.ts';
import { assertTotalsEqualLedger } from '../support/order-totals.ts';
import { FerryProcess } from '../support/processes.ts';
import { openProof } from '../support/proof.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const EVENTS = 30_000;
const EVERY_MS = 1_500;

test('a projection equals the ledger though its consumers were killed all the while', async (t) => {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  const proof = await openProof(lab.config);
  t.after(() => proof.close());
  const { group, topics } = ordersPerCustomerSource(topicRoutes(lab.config), lab.config.TOPIC_PREFIX);
  const env = { ...lab.environment, CONSUMER_SESSION_TIMEOUT_MS: '1000' };
  const members = [1, 2, 3].map(() => new FerryProcess({ roles: 'projection', env }));
  t.after(() => Promise.all(members.map((member) => member.kill())));
  const applied = async () => (await proof.pool.query<{ count: number }>(APPLIED, [group])).rows[0]?.count ?? 0;

  await lab.stream();
  const seed = Math.floor(Math.random() * 2 ** 31);
  const writing = lab.write({ rows: EVENTS });
  const report = await stormUntil(async () => (await applied()) > EVENTS / 2, members, createRandom(seed), EVERY_MS);
  t.diagnostic(`seed ${seed}: ${JSON.stringify({ ...report, appliedInStorm: await applied() })}`);
  assert.ok(report.kills + report.stops > 0, 'nobody left');
  await writing;

  await lab.assertExactlyOnce();
  await untilConsumed(lab.config, group, topics);
  assert.equal(await applied(), lab.rows);
  await assertTotalsEqualLedger(proof.pool);
  for (const member of members) assert.equal(await member.stop(), 0);
});

const APPLIED = `select count(*)::int as count from ferry.inbox where consumer_group = $1 and outcome = 'applied'`;
