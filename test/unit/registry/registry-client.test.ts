/** The client's reading of answers: what is unknown, what was refused, what is no answer at all. A plain HTTP server plays the registry. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, beforeEach, test } from 'node:test';
import { createRegistryClient } from '../../../src/registry/registry-client.ts';

type Answer = { status: number; body: unknown } | 'silence' | 'hang up';

let answer: (request: IncomingMessage) => Answer = () => 'hang up';
let requests: IncomingMessage[] = [];
const server = createServer((request, response) => {
  requests.push(request);
  const given = answer(request);
  if (given === 'silence') return;
  if (given === 'hang up') {
    request.socket.destroy();
    return;
  }
  response.writeHead(given.status, { 'content-type': 'application/json' });
  response.end(typeof given.body === 'string' ? given.body : JSON.stringify(given.body));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  requests = [];
});

const port = (server.address() as AddressInfo).port;
const url = `http://user:s%3Acret@127.0.0.1:${port}/apis/ccompat/v7/`;
const client = createRegistryClient({ url, timeoutMs: 30_000 });
const impatient = createRegistryClient({ url, timeoutMs: 200 });
const SCHEMA = '{"type":"record","name":"a.B","fields":[]}';

test('404 is unknown, not an error', async () => {
  answer = () => ({ status: 404, body: { error_code: 40401, message: 'not found' } });
  assert.equal(await client.versionsOf('s'), null);
  assert.equal(await client.version('s', 1), null);
  assert.equal(await client.schemaById(1), null);
  assert.deepEqual(await client.subjectsOfId(1), []);
  assert.equal(await client.compatibilityLevel('s'), null);
});

test('names are escaped, credentials sent in a header', async () => {
  answer = () => ({ status: 200, body: [3, 1, 2] });
  assert.deepEqual(await client.versionsOf('a/b c'), [1, 2, 3]);
  assert.equal(requests[0]?.url, '/apis/ccompat/v7/subjects/a%2Fb%20c/versions');
  assert.equal(requests[0]?.headers.authorization, `Basic ${Buffer.from('user:s:cret').toString('base64')}`);
});

test('no answer, a late one and one that says nothing are REGISTRY_UNAVAILABLE, without the password', async () => {
  const answers: Answer[] = [
    'silence',
    'hang up',
    ...[500, 502, 503, 401, 403, 429].map((status) => ({ status, body: 'x' })),
  ];
  for (const given of answers) {
    answer = () => given;
    await assert.rejects(impatient.versionsOf('s'), (thrown: Error & { code: string }) => {
      assert.equal(thrown.code, 'REGISTRY_UNAVAILABLE');
      assert.doesNotMatch(thrown.message, /s:cret|s%3Acret/);
      return true;
    });
    await assert.rejects(impatient.register('s', SCHEMA, 'FULL'), { code: 'REGISTRY_UNAVAILABLE' });
  }
});

test('an answer that is no JSON is not taken for one', async () => {
  answer = () => ({ status: 200, body: '<html>' });
  assert.equal(await client.versionsOf('s'), null);
});

test('refusals to register are told apart', async () => {
  const refusals: Array<[number, object, string]> = [
    [409, { error_code: 409, message: 'incompatible' }, 'SCHEMA_INCOMPATIBLE'],
    [422, { error_code: 42201, message: 'invalid schema' }, 'SCHEMA_INVALID'],
    [422, { error_code: 42205, message: 'Subject s is in read-only mode' }, 'REGISTRY_READ_ONLY'],
  ];
  for (const [status, body, code] of refusals) {
    answer = ({ method }) =>
      method === 'GET' ? { status: 200, body: { compatibilityLevel: 'FULL' } } : { status, body };
    await assert.rejects(client.register('s', SCHEMA, 'FULL'), { code });
    if (code !== 'SCHEMA_INCOMPATIBLE') await assert.rejects(client.setCompatibilityLevel('s', 'FULL'), { code });
  }
});

test('registering never changes the subject’s level', async () => {
  answer = ({ method }) =>
    method === 'GET' ? { status: 200, body: { compatibilityLevel: 'FULL' } } : { status: 200, body: { id: 7 } };
  assert.equal(await client.register('s', SCHEMA, 'FULL'), 7);
  assert.deepEqual(
    requests.map(({ method }) => method),
    ['GET', 'POST'],
  );
});
