/** The chaos tests' writers say how many rows they committed; that must be what the database holds, also when connections are lost. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createPool } from '../../src/postgres/connection.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { runWorkload } from '../support/workload.ts';

const stack = await testStack();

describe('runWorkload', () => {
  const pool = createPool(stack.config, 'workload-test', { max: 2 });
  after(() => pool.end());

  async function ledger(): Promise<{ rows: number; transactions: number; prepared: number; repeated: number }> {
    const { rows } = await pool.query(`select count(*)::int as rows, count(distinct tx::text)::int as transactions,
      count(*)::int - count(distinct (aggregateid, aggregateversion))::int as repeated,
      (select count(*)::int from pg_prepared_xacts where database = current_database()) as prepared
      from ferry.outbox`);
    return rows[0];
  }

  test('commits what it says, of every kind', async () => {
    const before = await ledger();
    let told = 0;
    const result = await runWorkload({
      databaseUrl: stack.databaseUrl,
      rows: 12_000,
      largestTransaction: 1_000,
      onCommit: (rows) => {
        told += rows;
      },
    });
    const now = await ledger();
    assert.equal(now.rows - before.rows, result.committedRows, `seed ${result.seed}`);
    assert.equal(told, result.committedRows);
    assert.ok(result.committedRows >= 12_000);
    assert.ok(result.abandonedRows > 0, 'something was rolled back');
    assert.equal(now.prepared, 0);
    assert.equal(now.repeated, 0);
    assert.equal(result.reconnects, 0);
  });

  test('knows what it committed when its connections are cut', async () => {
    const url = new URL(stack.databaseUrl);
    const proxy = await TcpProxy.start({ host: url.hostname, port: Number(url.port) });
    try {
      const before = await ledger();
      const over = new AbortController();
      let committed = 0;
      const running = runWorkload({
        databaseUrl: proxy.through(stack.databaseUrl),
        signal: over.signal,
        largestTransaction: 500,
        onCommit: (rows) => {
          committed += rows;
        },
      });
      for (let cuts = 0; cuts < 8; cuts++) {
        const goal = committed + 300;
        await waitUntil('more commits', () => committed >= goal);
        proxy.cut();
      }
      over.abort();
      const result = await running;
      const now = await ledger();
      assert.ok(result.reconnects >= 8);
      assert.equal(now.rows - before.rows, result.committedRows, `seed ${result.seed}`);
      assert.equal(now.prepared, 0);
    } finally {
      await proxy.close();
    }
  });
});
