/** One connection for several askers: statements one after the other, its death told, its end never waited for without end. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { SerialClient } from '../../../src/postgres/serial-client.ts';
import { type OnQuery, ScriptedPostgres } from '../../support/scripted-postgres.ts';
import { Signal } from '../../support/signals.ts';

const servers: ScriptedPostgres[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function connect(onQuery: OnQuery, options: { vanishes?: boolean } = {}) {
  const server = await ScriptedPostgres.start(onQuery, options);
  servers.push(server);
  const death = new Signal<Error>();
  const client = await SerialClient.connect(server.settings, 'test', (error) => death.fire(error));
  const [session] = server.sessions;
  assert.ok(session !== undefined);
  return { client, session, death };
}

test('statements sent at once run one after the other, each with its own answer', async (t) => {
  const warnings: string[] = [];
  const note = ({ message }: Error) => warnings.push(message);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  let running = 0;
  const { client } = await connect(async (text, session) => {
    running += 1;
    assert.equal(running, 1, 'two statements were under way');
    for (let i = 0; i < 3; i++) await turn();
    running -= 1;
    session.answer(['said'], [text]);
  });
  const answers = await Promise.all(['a', 'b', 'c'].map((text) => client.query<{ said: string }>(text)));
  assert.deepEqual(
    answers.map(({ rows }) => rows[0]?.said),
    ['a', 'b', 'c'],
  );
  assert.deepEqual(warnings, [], 'pg queued them itself, which its next major version will not');
  await client.end();
});

test('a statement that fails is told to whoever sent it, and the next one runs', async () => {
  const { client } = await connect((text, session) =>
    text === 'bad' ? session.fail('42601') : session.answer([], []),
  );
  const bad = client.query('bad');
  const good = client.query('good');
  await assert.rejects(bad, { code: '42601' });
  await good;
  await client.end();
});

test('a connection that breaks while nothing is asked is told at once', async () => {
  const { session, death, client } = await connect(() => {});
  session.socket.destroy();
  assert.ok((await death.wait('the death of the connection')) instanceof Error);
  await assert.rejects(client.query('too late'));
  await client.end();
});

test('one that breaks under a statement fails it and all that wait behind it', async () => {
  const { client, death } = await connect((_, session) => void session.socket.destroy());
  const asked = [client.query('a'), client.query('b')];
  for (const one of asked) await assert.rejects(one);
  await death.wait('the death of the connection');
  await client.end();
});

test('ending does not wait for a server that never closes its side, and is safe twice', async () => {
  const { client, session } = await connect(() => {}, { vanishes: true });
  await Promise.all([client.end(), client.end()]);
  await client.end();
  await session.closed;
});

test('ending in the middle of a statement that is never answered fails it', async () => {
  const asked = new Signal();
  const { client } = await connect(() => asked.fire(), { vanishes: true });
  const hanging = client.query('hangs');
  hanging.catch(() => {});
  await asked.wait('the statement');
  await client.end();
  await assert.rejects(hanging);
});

test('where nobody listens it says so', async () => {
  const server = await ScriptedPostgres.start(() => {});
  await server.close();
  await assert.rejects(
    SerialClient.connect(server.settings, 'test', () => {}),
    { code: 'ECONNREFUSED' },
  );
});
