/** Whatever was acquired is given back: in reverse, all of it, once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from '../../../src/kernel/scope.ts';

test('releases run last in, first out, one after the other', async () => {
  const scope = new Scope();
  const order: string[] = [];
  scope.defer('pool', () => order.push('pool'));
  scope.defer('server', async () => {
    await Promise.resolve();
    order.push('server');
  });
  await scope.close();
  assert.deepEqual(order, ['server', 'pool']);
});

test('one that fails does not keep the others, and all failures are told', async () => {
  const scope = new Scope();
  const order: string[] = [];
  scope.defer('first', () => order.push('first'));
  scope.defer('sync', () => {
    throw new Error('no');
  });
  scope.defer('async', () => Promise.reject(new Error('neither')));
  scope.defer('last', () => order.push('last'));
  await assert.rejects(scope.close(), (error) => {
    assert.ok(error instanceof AggregateError);
    assert.match(error.message, /releasing async failed; releasing sync failed/);
    assert.equal((error.errors[0] as Error).cause instanceof Error, true);
    return true;
  });
  assert.deepEqual(order, ['last', 'first']);
});

test('closing twice releases once, and both wait for the end', async () => {
  const scope = new Scope();
  let releases = 0;
  const gate = Promise.withResolvers<void>();
  scope.defer('slow', async () => {
    await gate.promise;
    releases += 1;
  });
  const both = Promise.all([scope.close(), scope.close()]);
  gate.resolve();
  await both;
  assert.equal(releases, 1);
});

test('what comes too late is given back at once, and whoever brought it is told', async () => {
  const scope = new Scope();
  await scope.close();
  let released = 0;
  const late = () => {
    released += 1;
    throw new Error('its own failure is not the point');
  };
  assert.throws(() => scope.defer('the socket', late), /the socket was acquired after its scope was closed/);
  assert.equal(released, 1);
});
