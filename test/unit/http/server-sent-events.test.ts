/** Server-sent events: what a frame is, that a slow client costs no memory, and that streams are counted. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, describe, test } from 'node:test';
import { type FastifyInstance, fastify } from 'fastify';
import { type ServerSentEvent, StreamLimit, sendEvents } from '../../../src/http/server-sent-events.ts';
import { ERRORS, FerryError } from '../../../src/kernel/errors.ts';
import { waitUntil } from '../../support/signals.ts';

const servers: FastifyInstance[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

/** A server whose only route streams these events; resolves with its port. */
async function serve(
  events: () => AsyncIterable<ServerSentEvent | null>,
  limit = new StreamLimit(10),
): Promise<number> {
  const server = fastify({ forceCloseConnections: true });
  servers.push(server);
  server.setErrorHandler((error, _request, reply) => {
    void reply.code(error instanceof FerryError ? ERRORS[error.code].status : 500).send();
  });
  server.get('/', (_request, reply) => {
    limit.take(reply);
    return sendEvents(reply, events());
  });
  return Number(new URL(await server.listen({ port: 0, host: '127.0.0.1' })).port);
}

const get = (port: number) => fetch(`http://127.0.0.1:${port}/`);

describe('server-sent events', () => {
  test('are frames, with heartbeats as comments', async () => {
    const port = await serve(async function* () {
      yield { id: '7', event: 'transition', data: { text: 'one\ntwo' } };
      yield null;
      yield { event: 'end', data: {} };
    });
    const response = await get(port);
    assert.equal(
      await response.text(),
      'retry: 2000\n\nid: 7\nevent: transition\ndata: {"text":"one\\ntwo"}\n\n:\n\nevent: end\ndata: {}\n\n',
    );
    assert.match(String(response.headers.get('content-type')), /^text\/event-stream/);
  });

  test('are made no faster than the client reads', async () => {
    let made = 0;
    const port = await serve(async function* () {
      for (; made < 100_000; made++) yield { event: 'e', data: 'x'.repeat(10_000) };
    });
    const socket = connect(port, '127.0.0.1').pause();
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await waitUntil('the buffers to be full', async () => {
      const before = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return made > 0 && made === before;
    });
    assert.ok(made < 5_000, `${made} of 100,000 were made for a client that reads nothing`);
    socket.destroy();
  });

  test('have a limit, and a client that leaves makes room', async () => {
    const waiting = Promise.withResolvers<void>();
    after(() => waiting.resolve());
    const port = await serve(async function* () {
      yield { event: 'e', data: 1 };
      await waiting.promise;
    }, new StreamLimit(1));
    const leave = new AbortController();
    const first = await fetch(`http://127.0.0.1:${port}/`, { signal: leave.signal });
    assert.equal(first.status, 200);
    assert.equal((await get(port)).status, 503);
    leave.abort();
    await waitUntil('room', async () => {
      const stop = new AbortController();
      const { status } = await fetch(`http://127.0.0.1:${port}/`, { signal: stop.signal });
      stop.abort();
      return status === 200;
    });
  });
});
