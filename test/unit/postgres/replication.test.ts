/**
 * The replication connection against a scripted server: what it asks, what it confirms to the byte, and that nothing hangs. This also pins the
 * inside of pg and pg-logical-replication that it uses: the socket behind a client, its process id, `acknowledge` that adds one.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Lsn } from '../../../src/kernel/lsn.ts';
import { createSlot, ReplicationConnection } from '../../../src/postgres/replication.ts';
import { SerialClient } from '../../../src/postgres/serial-client.ts';
import {
  BACKEND_PID,
  keepalive,
  type OnQuery,
  type PostgresSession,
  ScriptedPostgres,
  xlogData,
} from '../../support/scripted-postgres.ts';
import { Signal, waitUntil } from '../../support/signals.ts';

const TARGET = { slot: 'ferry_main', publication: 'Ferry "outbox"' };

const ROUND_TRIP = 'select';

const servers: ScriptedPostgres[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serve(onQuery: OnQuery, options: { vanishes?: boolean } = {}): Promise<ScriptedPostgres> {
  const server = await ScriptedPostgres.start(onQuery, options);
  servers.push(server);
  return server;
}

function identify(session: PostgresSession, timeline = '1'): void {
  session.answer(['systemid', 'timeline', 'xlogpos', 'dbname'], ['7580000000000000001', timeline, '1/A', 'shop']);
}

/** Opens a stream whose server answers START_REPLICATION with `start`. */
async function open(
  start: (session: PostgresSession) => void,
  { timeline = '1', vanishes = false }: { timeline?: string; vanishes?: boolean } = {},
) {
  const asked: string[] = [];
  const server = await serve(
    (text, session) => {
      asked.push(text);
      if (text === ROUND_TRIP) session.answer([], []);
      else if (text === 'IDENTIFY_SYSTEM') identify(session, timeline);
      else if (text.startsWith('TIMELINE_HISTORY'))
        session.answer(['filename', 'content'], ['f', '1\t0/5000000\tno reason']);
      else start(session);
    },
    { vanishes },
  );
  const taken: string[] = [];
  const opening = ReplicationConnection.open(server.settings, 'ferry relay', TARGET, {
    onData: (payload) => taken.push(payload.toString()),
    onKeepalive: (lsn, reply) => taken.push(`keepalive ${lsn}${reply ? '?' : ''}`),
  });
  return { server, asked, taken, opening };
}

async function opened(...together: readonly Buffer[]) {
  const { server, opening, ...rest } = await open((session) => session.startCopy(...together));
  const connection = await opening;
  const [session] = server.sessions;
  assert.ok(session !== undefined);
  /** Asks and answers on another connection: what was sent before on this one would have arrived by then. */
  const roundTrips = async () => {
    const other = await SerialClient.connect(server.settings, 'test', () => {});
    for (let i = 0; i < 3; i++) await other.query(ROUND_TRIP);
    await other.end();
  };
  return { ...rest, connection, session, roundTrips };
}

test('it identifies the system, then streams from the slot’s own position with messages, for its publication', async () => {
  const { asked, connection, session } = await opened();
  assert.deepEqual(asked, [
    'IDENTIFY_SYSTEM',
    `START_REPLICATION SLOT "ferry_main" LOGICAL 0/0 (proto_version '1', publication_names '"Ferry ""outbox"""', messages 'true')`,
  ]);
  assert.equal(session.parameters.replication, 'database');
  assert.match(session.parameters.options ?? '', /-c wal_sender_timeout=10s/);
  assert.equal(connection.processId, BACKEND_PID);
  const identity = { systemId: '7580000000000000001', timeline: 1, database: 'shop', serverLsn: 0x1_0000000an };
  assert.deepEqual(connection.identity, { ...identity, history: '' });
  await connection.stop();
});

test('on a later timeline it asks for the history', async () => {
  const { asked, opening } = await open((session) => session.startCopy(), { timeline: '2' });
  const connection = await opening;
  assert.equal(asked[1], 'TIMELINE_HISTORY 2');
  assert.equal(connection.identity.history, '1\t0/5000000\tno reason');
  await connection.stop();
});

test('after what came with the answer nothing is handed out before resume, and nothing while it is paused', async () => {
  const { connection, session, taken, roundTrips } = await opened(keepalive(5n, false));
  session.socket.write(xlogData(9n, Buffer.from('first')));
  await roundTrips();
  assert.deepEqual(taken, ['keepalive 5']);
  connection.resume();
  await waitUntil('the first', () => taken.length === 2);
  connection.pause();
  session.socket.write(xlogData(19n, Buffer.from('second')));
  session.socket.write(keepalive(0xffff_ffff_ffffn, true));
  await roundTrips();
  assert.equal(taken.length, 2);
  connection.resume();
  await waitUntil('the rest', () => taken.length === 4);
  assert.deepEqual(taken, ['keepalive 5', 'first', 'second', `keepalive ${0xffff_ffff_ffffn}?`]);
  assert.ok(connection.bytesReceived > 0);
  await connection.stop();
});

test('it confirms exactly the LSN that it is given, as written, flushed and applied', async () => {
  const { connection, session } = await opened();
  const lsns = [2n, 0x16_b374d848n, 0x1_00000000n, 0xffff_ffff_ffff_fffen] as Lsn[];
  for (const lsn of lsns) connection.confirm(lsn, lsn === 2n);
  await waitUntil('the status updates', () => session.copied.length === lsns.length);
  assert.deepEqual(
    session.copied.map((update) => [
      update.toString('latin1', 0, 1),
      ...[1, 9, 17].map((at) => update.readBigUInt64BE(at)),
    ]),
    lsns.map((lsn) => ['r', lsn, lsn, lsn]),
  );
  assert.deepEqual(
    session.copied.map((update) => update[33]),
    [1, 0, 0, 0],
  );
  await connection.stop();
});

test('position zero, which would mean nothing, is never confirmed; and nothing is confirmed by itself', async () => {
  const { connection, session, taken } = await opened();
  connection.resume();
  connection.confirm(0n as Lsn, true);
  session.socket.write(xlogData(100n, Buffer.from('row')));
  session.socket.write(keepalive(200n, true));
  await waitUntil('all is received', () => taken.length === 2);
  connection.confirm(50n as Lsn, false);
  await waitUntil('our confirmation', () => session.copied.length > 0);
  assert.deepEqual(
    session.copied.map((update) => update.readBigUInt64BE(1)),
    [50n],
  );
  await connection.stop();
});

test('a slot in use is an error with its SQLSTATE, and the connection is closed, whether or not the server still answers', async () => {
  const { server, opening } = await open((session) => session.fail('55006'), { vanishes: true });
  await assert.rejects(opening, { code: '55006' });
  await server.sessions[0]?.closed;
});

test('where nobody listens it says so', async () => {
  const server = await ScriptedPostgres.start(() => {});
  await server.close();
  const handlers = { onData() {}, onKeepalive() {} };
  await assert.rejects(ReplicationConnection.open(server.settings, 'test', TARGET, handlers), { code: 'ECONNREFUSED' });
});

for (const [what, end] of [
  ['breaks the connection', (session: PostgresSession) => session.socket.destroy()],
  ['closes it', (session: PostgresSession) => session.socket.end()],
  ['reports an error', (session: PostgresSession) => session.fail('57P01')],
] as const) {
  test(`a server that ${what} ends the stream, told and not thrown`, async () => {
    const { connection, session } = await opened();
    connection.resume();
    end(session);
    assert.ok((await connection.ended) instanceof Error);
    await connection.stop();
  });
}

test('stop ends it although it is paused and the server vanished; twice is safe, and confirming later does nothing', async () => {
  const { server, opening } = await open((session) => session.startCopy(), { vanishes: true });
  const connection = await opening;
  await connection.stop();
  await server.sessions[0]?.closed;
  await connection.stop();
  connection.confirm(7n as Lsn, false);
  assert.ok((await connection.ended) instanceof Error);
});

test('the wait for a new slot can be ended, and its connections go with it', async () => {
  const creating = new Signal();
  const server = await serve((text) => {
    if (text.startsWith('CREATE_REPLICATION_SLOT')) creating.fire();
  });
  const stop = new AbortController();
  const slot = createSlot(server.settings, 'ferry_main', stop.signal);
  slot.catch(() => {});
  await creating.wait('the slot is being created');
  stop.abort();
  await assert.rejects(slot);
  for (const { closed } of server.sessions) await closed;
});

test('a slot is not begun for who has given up already', async () => {
  const server = await serve(() => assert.fail('it was asked'));
  await assert.rejects(createSlot(server.settings, 'ferry_main', AbortSignal.abort()), { name: 'AbortError' });
  assert.equal(server.sessions.length, 0);
});
