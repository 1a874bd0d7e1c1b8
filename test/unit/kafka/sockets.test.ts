/** A Kafka client that is given up: none of its connections stays, and none is made any more. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { Sockets } from '../../../src/kafka/sockets.ts';

const server = createServer();
const accepted: Socket[] = [];

before(async () => {
  server.on('connection', (socket) => accepted.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
after(() => server.close());

function dial(sockets: Sockets, onConnect = () => {}): Socket {
  const { port } = server.address() as AddressInfo;
  return sockets.factory({ host: '127.0.0.1', port, ssl: undefined as never, onConnect });
}

test('a connection works until it is cut, with an error that says so', async () => {
  const sockets = new Sockets();
  const connected = Promise.withResolvers<void>();
  const socket = dial(sockets, connected.resolve);
  await connected.promise;
  const failed = once(socket, 'error');
  sockets.cut();
  assert.match(String(await failed), /given up/);
  assert.equal(socket.destroyed, true);
});

test('whoever connects afterwards is told by the same error', async () => {
  const sockets = new Sockets();
  sockets.cut();
  const socket = dial(sockets, () => assert.fail('it is connected'));
  const [error] = await once(socket, 'error');
  assert.match(String(error), /given up/);
});
