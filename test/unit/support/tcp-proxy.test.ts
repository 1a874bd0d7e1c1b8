/** The proxy's faults are what chaos tests believe in, so they are tested against plain sockets. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { sleep } from '../../../src/kernel/deadline.ts';
import { waitUntil } from '../../support/signals.ts';
import { PortRewriter, TcpProxy } from '../../support/tcp-proxy.ts';

/** That nothing comes announces itself nowhere: long against loopback's microseconds. */
const QUIET_MS = 50;

/** Answers every chunk with the same bytes. */
async function echoServer(): Promise<{ server: Server; port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port, sockets };
}

async function client(port: number): Promise<{ socket: Socket; received: () => string; closed: () => boolean }> {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  let closed = false;
  socket.on('close', () => {
    closed = true;
  });
  await once(socket, 'connect');
  return { socket, received: () => text, closed: () => closed };
}

describe('TcpProxy', async () => {
  const echo = await echoServer();
  const proxy = await TcpProxy.start({ host: '127.0.0.1', port: echo.port });
  after(async () => {
    await proxy.close();
    for (const socket of echo.sockets) socket.destroy();
    echo.server.close();
  });

  test('passes bytes both ways, and says its own address in a URL', async () => {
    const { socket, received } = await client(proxy.port);
    socket.write('hello');
    await waitUntil('the echo', () => received() === 'hello');
    assert.equal(proxy.bytesToClients, 5);
    assert.equal(proxy.through('postgres://u:p@db:5432/x'), `postgres://u:p@127.0.0.1:${proxy.port}/x`);
    socket.end();
    await waitUntil('the end to pass through', () => proxy.connections === 0);
  });

  test('cut resets what is open, and a new connection is whole', async () => {
    const first = await client(proxy.port);
    await waitUntil('the connection', () => echo.sockets.size === 1);
    proxy.cut();
    await waitUntil('both ends to be told', () => first.closed() && echo.sockets.size === 0);
    const second = await client(proxy.port);
    second.socket.write('again');
    await waitUntil('the echo', () => second.received() === 'again');
    second.socket.destroy();
  });

  test('a stall holds bytes back without closing, and gives them all when it ends', async () => {
    const { socket, received, closed } = await client(proxy.port);
    socket.write('one');
    await waitUntil('the echo', () => received() === 'one');
    proxy.setMode('stall');
    socket.write('two');
    const late = await client(proxy.port);
    late.socket.write('late');
    await sleep(QUIET_MS);
    assert.equal(received(), 'one');
    assert.equal(late.received(), '');
    assert.ok(!closed() && !late.closed());
    proxy.setMode('pass');
    await waitUntil('the rest', () => received() === 'onetwo' && late.received() === 'late');
    socket.destroy();
    late.socket.destroy();
  });

  test('half open: the server is gone, the client is not told, and never is', async () => {
    const { socket, received, closed } = await client(proxy.port);
    await waitUntil('the connection', () => echo.sockets.size === 1);
    proxy.setMode('half-open');
    await waitUntil('the server to be gone', () => echo.sockets.size === 0);
    proxy.setMode('pass');
    socket.write('into the void');
    await sleep(QUIET_MS);
    assert.ok(!closed());
    assert.equal(received(), '');
    socket.destroy();
  });

  test('refuse resets new connections and leaves the others', async () => {
    const before = await client(proxy.port);
    await waitUntil('the connection', () => echo.sockets.size === 1);
    proxy.setMode('refuse');
    const refused = connect(proxy.port, '127.0.0.1');
    refused.on('error', () => {});
    await waitUntil('the reset', () => refused.closed);
    before.socket.write('still');
    await waitUntil('the echo', () => before.received() === 'still');
    proxy.setMode('pass');
    before.socket.destroy();
  });
});

describe('PortRewriter', () => {
  const frame = (body: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length);
    return Buffer.concat([length, body]);
  };
  const address = (host: string, port: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(port);
    return Buffer.concat([Buffer.from(host), bytes]);
  };

  test('changes the port wherever the address stands, however TCP cuts the frames', () => {
    const part = fc.oneof(
      fc.uint8Array({ maxLength: 20 }).map((bytes) => ({ before: Buffer.from(bytes), after: Buffer.from(bytes) })),
      fc.constant({ before: address('127.0.0.1', 9092), after: address('127.0.0.1', 40_001) }),
      fc.constant({ before: address('127.0.0.1', 9093), after: address('127.0.0.1', 9093) }),
      fc.constant({ before: Buffer.from('127.0.0.1'), after: Buffer.from('127.0.0.1') }),
    );
    const frames = fc.array(fc.array(part, { maxLength: 6 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 40 })), (bodies, cuts) => {
        const join = (side: 'before' | 'after') =>
          Buffer.concat(bodies.map((parts) => frame(Buffer.concat(parts.map((each) => each[side])))));
        const rewriter = new PortRewriter({ host: '127.0.0.1', port: 9092 }, 40_001);
        const input = join('before');
        const output: Buffer[] = [];
        let at = 0;
        for (const length of [...cuts, input.length]) {
          output.push(Buffer.from(rewriter.rewrite(Buffer.from(input.subarray(at, at + length)))));
          at += length;
        }
        assert.deepEqual(Buffer.concat(output), join('after'));
      }),
    );
  });
});
