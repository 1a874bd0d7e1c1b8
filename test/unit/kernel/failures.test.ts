/** Work that goes on behind what failed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failures } from '../../../src/kernel/failures.ts';

test('what fails is told at the end, the first with its cause and how many there were beside it', async () => {
  const failures = new Failures();
  failures.throwIfAny();
  assert.equal(await failures.during('a', async () => 1), 1);
  const cause = new Error('why');
  assert.equal(await failures.during('b cannot be done', () => Promise.reject(cause)), null);
  assert.equal(await failures.during('c', async () => 2), 2);
  assert.throws(() => failures.throwIfAny(), { message: 'b cannot be done', cause });
  failures.add('d cannot be done', 'no error');
  assert.throws(() => failures.throwIfAny(), { message: 'b cannot be done (and 1 further failures)', cause });
});
