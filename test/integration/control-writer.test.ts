/** Control messages in the WAL: whoever may write them, in order, with the transaction or not at all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { controlPrefix, openControl } from '../../src/events/control-message.ts';
import { controlKey, emitControls } from '../../src/outbox/control-writer.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool({ DATABASE_URL: stack.databaseUrl, POSTGRES_TLS: 'auto' }, 'control-writer.test', { max: 4 });
test.after(() => pool.end());

/** Runs as a login role with that group's rights. */
function as<T>(role: string, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return transaction(pool, async (tx) => {
    await tx.query(`set local role ${role}`);
    return work(tx);
  });
}

describe('control messages', () => {
  test('come in their order, sealed, and only of what was committed', async () => {
    const slot = `${stack.databaseUrl.split('/').at(-1)}_control`;
    await pool.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
    try {
      const bodies = Array.from({ length: 300 }, (_, i) => `{"n":${i},"text":"žluť"}`);
      await as('ferry_api', (tx) => emitControls(tx, 'main', 'release', bodies));
      const undone = transaction(pool, async (tx) => {
        await emitControls(tx, 'main', 'release', ['undone']);
        throw new Error('undone');
      });
      await assert.rejects(undone, /undone/);
      await emitControls(pool, 'main', 'replay', []);
      const { rows } = await pool.query<{ data: Buffer }>(
        `select data from pg_logical_slot_get_binary_changes($1, null, null,
           'proto_version', '1', 'publication_names', 'ferry_outbox', 'messages', 'true')
         where get_byte(data, 0) = ascii('M')`,
        [slot],
      );
      const prefix = controlPrefix('main', 'release');
      const key = await controlKey(pool, 'main');
      const read = rows.map(({ data }) => openControl(key, prefix, data.subarray(10 + prefix.length + 1 + 4)));
      assert.deepEqual(read, bodies);
    } finally {
      await pool.query('select pg_drop_replication_slot($1)', [slot]);
    }
  });

  test('have one key for each relay, however many ask at once', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => controlKey(pool, 'busy')));
    assert.equal(new Set(keys.map((key) => key.toString('hex'))).size, 1);
    assert.notDeepEqual(await controlKey(pool, 'other'), keys[0]);
  });

  test('are sealed with a key that the relay and the API can read, and no application', async () => {
    await controlKey(pool, 'main');
    for (const role of ['ferry_relay', 'ferry_api'])
      assert.equal((await as(role, (tx) => controlKey(tx, 'main'))).length, 32);
    for (const role of ['ferry_writer', 'ferry_reader']) {
      await assert.rejects(
        as(role, (tx) => controlKey(tx, 'main')),
        { code: '42501' },
      );
      await assert.rejects(
        as(role, (tx) => emitControls(tx, 'main', 'release', ['x'])),
        { code: '42501' },
      );
    }
  });
});
