import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { probeKafka } from '../../../src/embedded/kafka-probe.ts';

/** A listener that answers each request with `answer`; resolves with what `probe` makes of it. */
async function against(answer: (socket: Socket) => void, timeoutMs = 2_000): Promise<number> {
  const server = createServer((socket) => socket.on('data', () => answer(socket)).on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  try {
    return await probeKafka('127.0.0.1', address.port, timeoutMs);
  } finally {
    server.close();
  }
}

/** A Metadata response: length, correlation id, throttle time, broker count, and what follows. */
function metadata(brokers: number): Buffer {
  const response = Buffer.alloc(4 + 12 + 20);
  response.writeInt32BE(response.length - 4, 0);
  response.writeInt32BE(1, 4);
  response.writeInt32BE(brokers, 12);
  return response;
}

describe('probeKafka', () => {
  test('counts the brokers, however TCP cuts the answer', async () => {
    const cut = (socket: Socket) => {
      socket.write(metadata(3).subarray(0, 7));
      setTimeout(() => socket.write(metadata(3).subarray(7)), 20);
    };
    assert.equal(await against(cut), 3);
  });

  test('is not content with an open port, with silence, or with a broker that is not yet in the metadata', async () => {
    await assert.rejects(
      against((socket) => socket.end()),
      /closed/,
    );
    await assert.rejects(
      against(() => {}, 50),
      /did not answer/,
    );
    await assert.rejects(
      against((socket) => socket.write(metadata(0))),
      /no broker is ready/,
    );
  });
});
