/** What becomes of the connection when a transaction is ended by a signal; the rest is tested on a real Postgres. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type pg from 'pg';
import { transaction } from '../../../src/postgres/transaction.ts';

interface FakePool {
  readonly pool: pg.Pool;
  readonly statements: string[];
  /** What connections were given back with: an error says that they must not be used again. */
  readonly released: unknown[];
}

function fakePool(failing: Readonly<Record<string, Error>> = {}): FakePool {
  const statements: string[] = [];
  const released: unknown[] = [];
  const client = {
    query: async (text: string) => {
      statements.push(text);
      const error = failing[text];
      if (error !== undefined) throw error;
      return { rows: [], rowCount: 0, command: text.toUpperCase() };
    },
    release: (error?: Error) => released.push(error),
  };
  return { pool: { connect: async () => client } as unknown as pg.Pool, statements, released };
}

const never = () => new Promise<never>(() => {});

describe('a transaction with a signal', () => {
  test('is ended by it: the reason is thrown, and the connection is given up', async () => {
    const { pool, statements, released } = fakePool();
    const abort = new AbortController();
    const reason = new Error('enough');
    const ended = transaction(pool, never, { signal: abort.signal });
    setImmediate(() => abort.abort(reason));
    await assert.rejects(ended, reason);
    assert.deepEqual(released, [reason]);
    assert.deepEqual(
      statements.filter((text) => !text.startsWith('begin')),
      [], // a statement of the work may still be running there
    );
  });

  test('that has fired before does not begin its work’s commit', async () => {
    const { pool, statements } = fakePool();
    await assert.rejects(
      transaction(pool, async () => 1, { signal: AbortSignal.abort(new Error('enough')) }),
      /enough/,
    );
    assert.ok(!statements.includes('commit'));
  });

  test('lets Postgres notice that its client is gone', async () => {
    const { pool, statements } = fakePool();
    await transaction(pool, async () => 1, { signal: new AbortController().signal });
    await transaction(pool, async () => 1);
    assert.match(statements[0] ?? '', /; set local client_connection_check_interval = 500$/);
    assert.deepEqual(statements.slice(1), ['commit', 'begin isolation level read committed', 'commit']);
  });

  test('takes no notice of one that fires after the work: the commit goes on', async () => {
    const { pool, released } = fakePool();
    const abort = new AbortController();
    const work = async () => {
      queueMicrotask(() => setImmediate(() => abort.abort(new Error('late'))));
      return 7;
    };
    assert.equal(await transaction(pool, work, { signal: abort.signal }), 7);
    assert.deepEqual(released, [undefined]);
  });

  test('is rolled back and its connection kept when the work fails by itself', async () => {
    const { pool, statements, released } = fakePool();
    const failed = transaction(pool, () => Promise.reject(new Error('no')), { signal: new AbortController().signal });
    await assert.rejects(failed, /no/);
    assert.equal(statements.at(-1), 'rollback');
    assert.deepEqual(released, [undefined]);
  });

  test('gives the connection up when it cannot be rolled back', async () => {
    const broken = new Error('gone');
    const { pool, released } = fakePool({ rollback: broken });
    await assert.rejects(
      transaction(pool, () => Promise.reject(new Error('no'))),
      /no/,
    );
    assert.deepEqual(released, [broken]);
  });
});
