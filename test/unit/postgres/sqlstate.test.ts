import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FerryError } from '../../../src/kernel/errors.ts';
import { ferryErrorOf, isRetryableTransaction, sqlStateOf } from '../../../src/postgres/sqlstate.ts';

const databaseError = (code: string, fields: object = {}) =>
  Object.assign(new Error(`value sesame of ${code}`), { code, ...fields });

describe('ferryErrorOf', () => {
  it('knows every SQLSTATE that the migrations raise', () => {
    const folder = join(import.meta.dirname, '../../../migrations/ferry');
    const sql = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
    const raised = new Set(sql.flatMap((text) => text.match(/OX\d{3}/g) ?? []));
    assert.ok(raised.size >= 3);
    for (const code of raised) assert.ok(ferryErrorOf(databaseError(code)) instanceof FerryError, code);
  });

  it('keeps values of others’ messages out of its own', () => {
    for (const code of ['22008', '22021', '22P05', '57014', '23505', '23514']) {
      const error = ferryErrorOf(databaseError(code, { table: 'outbox_20260102', constraint: 'outbox_type_length' }));
      assert.ok(error instanceof FerryError, code);
      assert.doesNotMatch(error.message, /sesame/);
    }
  });

  it('names the rule of the outbox that was broken, and leaves other tables’ rules alone', () => {
    const rule = { table: 'outbox_20260102', constraint: 'outbox_aggregateid_length' };
    assert.equal(ferryErrorOf(databaseError('23514', rule))?.code, 'EVENT_MALFORMED');
    assert.match(ferryErrorOf(databaseError('23514', rule))?.message ?? '', /outbox_aggregateid_length/);
    assert.equal(ferryErrorOf(databaseError('23514', { table: 'customers' })), undefined);
  });

  it('knows a connection that is gone, in all the forms it comes in', () => {
    const refused = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' });
    const gone = [
      refused,
      new AggregateError([refused]),
      databaseError('08006'),
      new Error('Connection terminated unexpectedly'),
    ];
    for (const error of gone) assert.equal(ferryErrorOf(error)?.code, 'PART_UNREACHABLE');
  });

  it('leaves alone what is none of its business', () => {
    assert.equal(ferryErrorOf(new Error('boom')), undefined);
    assert.equal(ferryErrorOf('boom'), undefined);
  });
});

describe('sqlStateOf', () => {
  it('tells SQLSTATEs from the codes of sockets', () => {
    assert.equal(sqlStateOf(databaseError('40001')), '40001');
    assert.equal(sqlStateOf(databaseError('EPIPE')), undefined);
    assert.equal(isRetryableTransaction(databaseError('40P01')), true);
    assert.equal(isRetryableTransaction(databaseError('23505')), false);
  });
});
