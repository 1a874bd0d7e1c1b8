/** The relay needs no more than REPLICATION and the group role ferry_relay: not the schema's owner, not a superuser. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();

test('a relay publishes, starts again and is counted as a role of its own', async (t) => {
  const lab = await RelayLab.open(stack);
  const url = new URL(lab.environment.DATABASE_URL ?? '');
  const role = `relay_${url.pathname.slice(1)}`;
  await lab.sql(`create role ${role} login replication password 'relay' in role ferry_relay`);
  t.after(async () => {
    await lab.close();
    await lab.sql(`drop role ${role}`);
  });
  url.username = role;
  url.password = 'relay';
  const relay = lab.newRelay({ DATABASE_URL: url.toString() });

  await lab.stream(relay);
  await lab.write({ rows: 50, largestTransaction: 20 });
  await lab.insert([{ aggregateId: 'poison', payload: { not: 'an order' } }]);
  lab.deadLetters = 1;
  await relay.kill();
  await lab.stream(relay);
  await lab.assertExactlyOnce();

  const { rows } = await lab.sql<{ usename: string }>(
    `select usename from pg_stat_activity where backend_type = 'walsender' and datname = current_database()`,
  );
  assert.deepEqual(rows, [{ usename: role }]);
});
