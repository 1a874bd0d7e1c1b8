/** A client that leaves while its request is still being looked at is gone for the handler: it takes no place and is not waited for. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { type FastifyReply, fastify } from 'fastify';
import { untilPositionApplied } from '../../../src/http/position.ts';
import { StreamLimit } from '../../../src/http/server-sent-events.ts';
import { Signal, waitUntil } from '../../support/signals.ts';

/** What `handle` returns for a client that leaves before the handler begins, as during its authentication, and for one that stays a while. */
async function handled<T>(handle: (reply: FastifyReply) => T, leaves: 'before' | 'later'): Promise<T> {
  const server = fastify({ forceCloseConnections: true });
  after(() => server.close());
  const arrived = new Signal();
  const result = Promise.withResolvers<T>();
  server.addHook('onRequest', async (_request, reply) => {
    arrived.fire();
    if (leaves === 'before') await once(reply.raw, 'close');
  });
  server.get('/', (_request, reply) => {
    result.resolve(handle(reply));
  });
  const port = Number(new URL(await server.listen({ port: 0, host: '127.0.0.1' })).port);
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await arrived.wait('the request');
  if (leaves === 'later') await result.promise;
  socket.destroy();
  return result.promise;
}

test('a stream whose client left before it began has no place', async () => {
  const limit = new StreamLimit(1);
  assert.equal((await handled((reply) => limit.take(reply), 'before')).aborted, true);
  const next = await handled((reply) => limit.take(reply), 'later');
  await waitUntil('the client to be gone', () => next.aborted);
  await handled((reply) => limit.take(reply), 'later');
});

test('a held read whose client left before it began is not held', async () => {
  const isGone = await handled(async (reply) => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const untilApplied = async ({ signal }: { readonly signal: AbortSignal }) => {
      resolve(signal.aborted);
      return 'applied' as const;
    };
    await untilPositionApplied(untilApplied, { 'ferry-position': '0/1' }, reply, new AbortController().signal);
    return promise;
  }, 'before');
  assert.equal(isGone, true);
});
