import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { ensurePartitions, keepPartitions } from '../../../src/postgres/partitions.ts';

const failing = (code: string, times: number) => {
  let left = times;
  const db: Queryable = {
    async query<R>() {
      if (left-- > 0) throw Object.assign(new Error('no'), { code });
      return { rows: [{ count: 3 }] as R[], rowCount: 1 };
    },
  };
  return db;
};

describe('ensurePartitions', () => {
  it('waits its turn for the lock, and tells everything else', async () => {
    assert.equal(await ensurePartitions(failing('55P03', 2)), 3);
    await assert.rejects(ensurePartitions(failing('42501', 1)), { code: '42501' });
  });
});

describe('keepPartitions', () => {
  it('makes them at once, and reports what fails instead of throwing it', async () => {
    const reported = Promise.withResolvers<unknown>();
    const stop = keepPartitions(failing('42501', 1), reported.resolve);
    assert.equal(((await reported.promise) as { code: string }).code, '42501');
    stop();
  });
});
