import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { choosePort, freePort, isPortFree } from '../../../src/embedded/ports.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const address = server.address();
assert.ok(address !== null && typeof address === 'object');
const taken = address.port;
after(() => server.close());

test('a free port is none that an outgoing connection may be given', async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, () => freePort()));
  for (const port of ports) assert.ok(port < 32_768, `${port} is one of those`);
  assert.ok(new Set(ports).size > 40, 'they are drawn at random');
});

describe('choosePort', () => {
  test('refuses a configured port that is taken, naming the variable', async () => {
    await assert.rejects(choosePort('EMBEDDED_KAFKA_PORT', taken), (error) => {
      assert.ok(error instanceof FerryError);
      assert.equal(error.code, 'PORT_TAKEN');
      assert.match(error.message, new RegExp(`${taken}.*EMBEDDED_KAFKA_PORT`));
      return true;
    });
  });

  test('takes the port used before, and another one if that is taken', async () => {
    const before = await freePort();
    assert.equal(await choosePort('EMBEDDED_KAFKA_PORT', 0, before), before);
    const other = await choosePort('EMBEDDED_KAFKA_PORT', 0, taken);
    assert.notEqual(other, taken);
    assert.equal(await isPortFree(other), true);
  });
});
