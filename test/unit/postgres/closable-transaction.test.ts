import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ClosableTransaction } from '../../../src/postgres/closable-transaction.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';

const coded = (code: string) => Object.assign(new Error(code), { code });

/** Answers each statement with the error of that name, if there is one. */
function scripted(errors: Readonly<Record<string, Error>> = {}): Queryable & { statements: string[] } {
  const statements: string[] = [];
  return {
    statements,
    query: async (text) => {
      statements.push(text);
      const error = errors[text];
      if (error !== undefined) throw error;
      return { rows: [], rowCount: 0 };
    },
  };
}

describe('a transaction that is handed out', () => {
  test('passes statements on until it is closed', async () => {
    const tx = scripted();
    const closable = new ClosableTransaction(tx);
    assert.deepEqual(await closable.query('one'), { rows: [], rowCount: 0 });
    closable.close();
    await assert.rejects(closable.query('two'), /this transaction is over/);
    assert.deepEqual(tx.statements, ['one']);
  });

  test('knows its own errors, also as causes, and no others', async () => {
    const own = coded('22012');
    const closable = new ClosableTransaction(scripted({ bad: own }));
    await assert.rejects(closable.query('bad'), own);
    assert.equal(closable.threw(own), true);
    assert.equal(closable.threw(new Error('a', { cause: new Error('b', { cause: own }) })), true);
    for (const foreign of [coded('22012'), new Error('a', { cause: coded('22012') }), 'bad', undefined])
      assert.equal(closable.threw(foreign), false);
  });

  test('says why a transaction is aborted, not that it is', async () => {
    const first = coded('23505');
    const closable = new ClosableTransaction(scripted({ bad: first, next: coded('25P02'), other: coded('22012') }));
    assert.equal(closable.firstFailure, null);
    await assert.rejects(closable.query('bad'), first);
    await assert.rejects(closable.query('next'), first);
    await assert.rejects(closable.query('other'), { code: '22012' }); // after a savepoint
    assert.equal(closable.firstFailure, first);
  });
});
