/**
 * Old days go out of the outbox while writers write and the relay works off a backlog that lies in those very days; the runs are killed at
 * each of their fail points and at random, and the relay with them. Every event must be in Kafka once, also those whose rows are gone.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { HEADER } from '../../src/events/record.ts';
import { RETENTION_FAIL_POINTS } from '../../src/kernel/fail-point.ts';
import { dayAgo, makeOldDays, writeOldEvents } from '../support/old-days.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab, untilStreaming } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const MAIN = join(import.meta.dirname, '../../src/main.ts');
const DAYS = [40, 39, 38, 37, 36, 35];
const EVENTS_A_DAY = 400;
const RUNS_AT_MOST = 60;

test('days go under load, with a backlog, killed at every step: nothing is lost and nothing twice', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = createRandom(seed);
  t.diagnostic(`seed ${seed}`);
  const lab = await RelayLab.open(stack, { RELAY_BATCH_MAX_EVENTS: '150' });
  t.after(() => lab.close());
  const databaseUrl = lab.environment.DATABASE_URL ?? '';
  await lab.stream();
  await lab.relay.kill();
  await makeOldDays(databaseUrl, DAYS);
  const old: string[] = [];
  for (const day of DAYS) old.push(...(await writeOldEvents(databaseUrl, day, EVENTS_A_DAY)));

  /** One run of the command; resolves with the signal that ended it, or null. */
  const run = async (environment: Record<string, string>, killAfterMs: number | null) => {
    const child = spawn(process.execPath, [MAIN, 'retention'], {
      env: { ...process.env, ...lab.environment, ...environment },
      stdio: 'ignore',
    });
    const ended = once(child, 'exit');
    const timer = killAfterMs === null ? null : setTimeout(() => child.kill('SIGKILL'), killAfterMs);
    await ended;
    if (timer !== null) clearTimeout(timer);
    return child.signalCode;
  };
  const daysLeft = async () => {
    const { rows } = await lab.sql<{ count: number }>(
      `select (select count(*)::int from ferry.outbox_day where day < current_date - 30)
            + (select count(*)::int from ferry.outbox_retired where dropped_at is null) as count`,
    );
    return rows[0]?.count ?? 0;
  };

  const writing = lab.startWriting({ rowsPerSecond: 300, largestTransaction: 500 });
  assert.equal(await run({}, null), null);
  assert.equal(await daysLeft(), DAYS.length, 'nothing goes before it is published');
  lab.relay.start();
  const killed = new Map<string, number>();
  const points = [...RETENTION_FAIL_POINTS];
  let runs = 0;
  for (; (await daysLeft()) > 0 && runs < RUNS_AT_MOST; runs++) {
    const point = points[0];
    const atRandom = point === undefined && random.chance(0.5);
    const signal = await run(
      point === undefined ? {} : { FERRY_FAIL_POINT: point },
      atRandom ? random.between(300, 2_500) : null,
    );
    if (signal !== null) killed.set(point ?? 'at random', (killed.get(point ?? 'at random') ?? 0) + 1);
    if (signal !== null && point !== undefined) points.shift();
    if (runs % 4 === 3) {
      await lab.relay.kill();
      lab.relay.start();
      await untilStreaming(lab.relay);
    }
  }
  t.diagnostic(`${runs} runs, killed: ${JSON.stringify([...killed])}`);
  assert.deepEqual(points, [], 'every fail point was passed');
  assert.equal(await daysLeft(), 0, `days are left after ${runs} runs`);
  await writing.stop();
  const report = await lab.assertExactlyOnce();
  t.diagnostic(`${report.outboxRows} rows in the outbox, ${old.length} of days that are gone`);
  const records = await lab.records(lab.topic('order'));
  const counts = Map.groupBy(records, ({ headers }) => headers[HEADER.id] ?? '');
  assert.deepEqual(
    old.filter((id) => counts.get(id)?.length !== 1),
    [],
    'events of the days that are gone, not once in Kafka',
  );
  const { rows } = await lab.sql<{ day: string; rows: bigint }>(
    'select day::text, rows from ferry.outbox_retired order by day',
  );
  assert.deepEqual(
    rows.map(({ day, rows: count }) => [day, Number(count)]),
    DAYS.map((day) => [dayAgo(day), EVENTS_A_DAY]),
  );
});
