/** Heartbeats: bounded in number and in time, and what they tell is only ever what was published. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { Heartbeat, RequestedHeartbeats } from '../../../src/relay/heartbeat.ts';
import { lsn } from '../../support/relay-fixtures.ts';

const OWN = { relay: 'main', run: 7n };

/** Plays the database: gives each heartbeat a snapshot of its own, and keeps what is recorded as published. */
class Database implements Queryable {
  readonly nonces: string[] = [];
  readonly recorded: unknown[][] = [];
  /** Awaited before the answer to a heartbeat. */
  answers: Promise<void> = Promise.resolve();

  async query<R>(text: string, values: unknown[] = []): Promise<{ rows: R[]; rowCount: number | null }> {
    if (text.includes('pg_logical_emit_message')) {
      const [prefix, nonce] = values;
      assert.equal(prefix, 'ferry:main:heartbeat');
      this.nonces.push(String(nonce));
      const snapshot = `snapshot ${this.nonces.length}`;
      await this.answers;
      return { rows: [{ snapshot } as R], rowCount: 1 };
    }
    assert.match(text, /relay_progress/);
    this.recorded.push(values);
    return { rows: [], rowCount: 1 };
  }
}

test('a heartbeat that was published tells its snapshot, the newest of several', async () => {
  const database = new Database();
  const heartbeat = new Heartbeat(database, OWN);
  for (let i = 0; i < 3; i++) await heartbeat.beat();
  assert.equal(new Set(database.nonces).size, 3);
  const [first = '', second = '', third = ''] = database.nonces;
  await heartbeat.published([first, second], lsn(0x10));
  await heartbeat.published([third], lsn(0x20));
  assert.deepEqual(database.recorded, [
    ['main', 7n, 'snapshot 2', '0/10'],
    ['main', 7n, 'snapshot 3', '0/20'],
  ]);
});

test('one that somebody else emitted, or that came twice, says nothing', async () => {
  const database = new Database();
  const heartbeat = new Heartbeat(database, OWN);
  await heartbeat.beat();
  await heartbeat.published(['forged'], lsn(1));
  await heartbeat.published([], lsn(1));
  assert.deepEqual(database.recorded, []);
  await heartbeat.published(database.nonces, lsn(2));
  await heartbeat.published(database.nonces, lsn(3));
  assert.equal(database.recorded.length, 1);
});

test('no more than eight are under way, and publishing one makes room', async () => {
  const database = new Database();
  const heartbeat = new Heartbeat(database, OWN);
  for (let i = 0; i < 20; i++) await heartbeat.beat();
  assert.equal(database.nonces.length, 8);
  await heartbeat.published(database.nonces.slice(0, 1), lsn(1));
  await heartbeat.beat();
  assert.equal(database.nonces.length, 9);
});

test('one that is published before its own answer is here tells its snapshot all the same, and does not stay under way', async () => {
  const database = new Database();
  const heartbeat = new Heartbeat(database, OWN);
  for (let i = 1; i <= 20; i++) {
    const answer = Promise.withResolvers<void>();
    database.answers = answer.promise;
    const beating = heartbeat.beat();
    const published = heartbeat.published(database.nonces.slice(-1), lsn(i));
    answer.resolve();
    await Promise.all([beating, published]);
    assert.deepEqual(database.recorded.at(-1)?.[2], `snapshot ${i}`);
  }
});

test('one that is asked for comes at once; any number of further requests are served together, by one that begins after them', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 1_000;
  t.mock.method(performance, 'now', () => now);
  const pass = (ms: number) => {
    now += ms;
    t.mock.timers.tick(ms);
  };
  let beats = 0;
  const requested = new RequestedHeartbeats(() => {
    beats += 1;
  });
  requested.request();
  pass(1);
  assert.equal(beats, 1);
  for (let i = 0; i < 1_000; i++) requested.request();
  pass(48);
  assert.equal(beats, 1);
  pass(2);
  assert.equal(beats, 2);
  pass(1_000);
  assert.equal(beats, 2, 'nobody asked');
  requested.request();
  requested.stop();
  pass(1_000);
  assert.equal(beats, 2);
});
