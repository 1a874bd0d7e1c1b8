/** Heartbeats that come back early, late, twice, or from somebody else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Lsn } from '../../../src/kernel/lsn.ts';
import type { Queryable } from '../../../src/postgres/connection.ts';
import { Heartbeat } from '../../../src/relay/heartbeat.ts';

const LSN = 0x1000n as Lsn;

/** Keeps the answers to heartbeats back until they are given; notes which snapshots were recorded as published. */
class SlowDatabase {
  readonly nonces: string[] = [];
  readonly recorded: unknown[] = [];
  readonly #answers: Array<() => void> = [];

  readonly query: Queryable['query'] = async <R>(text: string, values: unknown[] = []) => {
    if (!text.includes('pg_logical_emit_message')) {
      this.recorded.push(values[1]);
      return { rows: [], rowCount: 1 };
    }
    const number = this.nonces.push(String(values[1]));
    await new Promise<void>((resolve) => this.#answers.push(resolve));
    return { rows: [{ snapshot: `snapshot ${number}` } as R], rowCount: 1 };
  };

  answer(): void {
    for (const resolve of this.#answers.splice(0)) resolve();
  }
}

test('a heartbeat that is published before its answer came counts when it comes, and leaves nothing pending', async () => {
  const database = new SlowDatabase();
  const heartbeat = new Heartbeat(database, 'main');
  for (let round = 1; round <= 20; round++) {
    const beating = heartbeat.beat();
    const told = heartbeat.published(database.nonces.slice(-1), LSN);
    database.answer();
    await Promise.all([beating, told]);
    assert.equal(database.nonces.length, round, 'earlier ones count as pending: no heartbeat was sent');
    assert.equal(database.recorded.at(-1), `snapshot ${round}`);
  }
});

test('of several that are published together the newest counts, once', async () => {
  const database = new SlowDatabase();
  const heartbeat = new Heartbeat(database, 'main');
  const beating = [heartbeat.beat(), heartbeat.beat(), heartbeat.beat()];
  database.answer();
  await Promise.all(beating);
  await heartbeat.published(database.nonces, LSN);
  await heartbeat.published(database.nonces, LSN);
  assert.deepEqual(database.recorded, ['snapshot 3']);
});

test('one that another session or another role emitted says nothing', async () => {
  const database = new SlowDatabase();
  await new Heartbeat(database, 'main').published(['forged'], LSN);
  assert.deepEqual(database.recorded, []);
});

test('a relay that is behind sends a few and then waits for them', async () => {
  const database = new SlowDatabase();
  const heartbeat = new Heartbeat(database, 'main');
  const beating = Array.from({ length: 50 }, () => heartbeat.beat());
  assert.ok(database.nonces.length < 20);
  database.answer();
  await Promise.all(beating);
});
