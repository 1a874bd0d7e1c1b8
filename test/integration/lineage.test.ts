/** The way of one event on real parts: what each of them knows of it, over HTTP and on the command line, and what is said where nothing is known. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { v7 } from 'uuid';
import { recordSource } from '../../src/cli/record-source.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { testApi } from '../support/api.ts';
import { idOfDay, noteDroppedDay } from '../support/old-days.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const lab = await RelayLab.open(stack);
const pool = createPool(lab.config, 'lineage-test', { max: 2 });
after(async () => {
  await lab.close();
  await pool.end();
});
const api = await testApi(stack, {
  overrides: {
    lineage: {
      databases: [{ name: 'main', db: pool, relay: lab.config.RELAY_NAME }],
      routes: topicRoutes(lab.config),
      records: recordSource(lab.config),
    },
  },
});
const random = createRandom(7);
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const order = (aggregateId: string) => ({
  aggregateId,
  version: 1,
  payload: orderPlaced(random),
  traceparent: `00-${TRACE}-00f067aa0ba902b7-01`,
});
let ids: string[] = [];
before(async () => {
  await lab.stream();
  ids = await lab.insert(['a', 'b', 'c'].map(order));
  await lab.untilPublished(ids[2]);
});

type Lineage = Record<string, unknown> & {
  row: Record<string, unknown>;
  record: Record<string, unknown>;
  unknown: string[];
};
const trace = async (id: string | undefined) => {
  const { status, body, text } = await api.request('GET', `/v1/ops/events/${id}`, { as: 'operator' });
  assert.equal(status, 200, text);
  return body as Lineage;
};
const ferry = (...args: string[]) =>
  promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../src/main.ts'), 'trace', ...args], {
    env: { ...process.env, ...lab.environment },
  }).then(
    ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );

test('a published event: its row, its record with schema and version, its trace', async () => {
  const { row, record, ...rest } = await trace(ids[1]);
  assert.deepEqual([row.aggregateType, row.key, row.aggregateVersion, row.status], ['order', 'b', 1, 'published']);
  assert.equal(row.traceId, TRACE);
  const [found] = (await lab.records(lab.topic('order'))).filter(({ headers }) => headers.ce_id === ids[1]);
  assert.deepEqual(
    [record.topic, record.partition, record.offset, record.commitLsn, record.seq],
    [found?.topic, found?.partition, String(found?.offset), found?.headers.ferry_lsn, Number(found?.headers.ferry_seq)],
  );
  assert.deepEqual(record.schema, {
    subject: `${lab.topic('order')}-commerce.OrderPlaced`,
    id: Number(/:(\d+)$/.exec(String(found?.headers.ce_dataschema))?.[1]),
    version: 1,
  });
  assert.deepEqual(rest, {
    id: ids[1],
    dayDropped: false,
    consumers: [],
    troubles: [],
    replays: [],
    sagaSteps: [],
    unknown: [],
  });
});

test('who has applied it, what went wrong with it, who did what to it, which saga and which replay it belongs to', async () => {
  const [id] = ids;
  const { row } = await trace(id);
  await lab.sql(
    `insert into ferry.inbox (consumer_group, event_id, recorded_at, outcome)
     select name, $1, $2, outcome from (values ('alpha', 'applied'), ('billing', 'parked'), ('zeta', 'applied')) as consumer (name, outcome)`,
    [id, row.recordedAt],
  );
  await lab.sql(
    `insert into ferry.inbox (consumer_group, event_id, recorded_at) select 'busy', ferry.uuidv7(), clock_timestamp() from generate_series(1, 500)`,
  );
  await lab.sql(
    `insert into ferry.parked_key (consumer_group, topic, key, source_partition, event_id, error_code, events, dead_letter_partition, dead_letter_offset)
     values ('billing', 't', 'a', 0, $1, 'HANDLER_FAILED', 3, 0, 0)`,
    [id],
  );
  await lab.sql(`select ferry.audit_operation('cli:anna', 'parked-key.release', 'billing/t/a', $1, null, 'mended')`, [
    id,
  ]);
  await lab
    .sql(
      `with saga as (
       insert into ferry.saga (id, name, version, key, state, data) values (ferry.uuidv7(), 'trip', 1, 'a', 'running', '{}') returning id
     ) insert into ferry.saga_history (saga_id, cause, step, to_state, purpose, attempt, event_id) select id, 'command', 'payment', 'sent', 'do', 1, $1 from saga`,
      [id],
    )
    .catch(async () => {
      await lab.sql(`insert into ferry.saga_definition (name, version, checksum) values ('trip', 1, 'x')`);
      await lab.sql(
        `with saga as (
         insert into ferry.saga (id, name, version, key, state, data) values (ferry.uuidv7(), 'trip', 1, 'a', 'running', '{}') returning id
       ) insert into ferry.saga_history (saga_id, cause, step, to_state, purpose, attempt, event_id) select id, 'command', 'payment', 'sent', 'do', 1, $1 from saga`,
        [id],
      );
    });
  await lab.sql(
    `insert into ferry.replay (id, relay, state, selection, new_ids, events_per_second, reason, requested_by, snapshot, first_seq, last_seq, cursor_seq, checked)
     select ferry.uuidv7(), 'other', 'paused', selection::jsonb, false, 1, reason, 'cli:anna', pg_current_snapshot(), 1, 1000000, 1000000, true
     from (values ('{"aggregateId":"a"}', 'of its aggregate'), ('{"aggregateId":"b"}', 'of another')) as wanted (selection, reason)`,
  );
  const seen = await trace(id);
  assert.deepEqual(
    (seen.consumers as Array<Record<string, unknown>>).map(({ group, outcome }) => [group, outcome]).sort(),
    [
      ['alpha', 'applied'],
      ['billing', 'parked'],
      ['zeta', 'applied'],
    ],
  );
  assert.deepEqual(
    (seen.troubles as Array<Record<string, unknown>>).map(({ owner, code }) => [owner, code]),
    [
      ['group billing', 'HANDLER_FAILED'],
      ['cli:anna', 'parked-key.release'],
    ],
  );
  assert.deepEqual(
    (seen.sagaSteps as Array<Record<string, unknown>>).map(({ name, step, cause, attempt }) => [
      name,
      step,
      cause,
      attempt,
    ]),
    [['trip', 'payment', 'command', 1]],
  );
  assert.deepEqual(
    (seen.replays as Array<Record<string, unknown>>).map(({ reason, passed }) => [reason, passed]),
    [['of its aggregate', true]],
  );
  const { stdout } = await ferry(String(id));
  for (const text of [
    'commerce.OrderPlaced, published',
    'order a, version 1',
    TRACE,
    'alpha',
    'mended',
    'trip ',
    'of its aggregate',
    ' version 1 (id ',
  ])
    assert.ok(stdout.includes(text), `${text} in ${stdout}`);
});

test('a dead letter, an event that is pending, one whose day was dropped, and one that never was', async () => {
  const [letter] = await lab.insert([{ aggregateId: 'd', payload: { no: 'such field' } }]);
  await lab.untilPublished((await lab.insert([order('e')]))[0]);
  const dead = await trace(letter);
  assert.equal(dead.row.status, 'dead-lettered');
  assert.equal(dead.record.topic, lab.deadLetterTopic('order'));
  assert.equal(dead.record.errorCode, (dead.troubles as Array<Record<string, unknown>>)[0]?.code);

  await lab.relay.kill();
  const [pending] = await lab.insert([order('f')]);
  const { record, unknown } = await trace(pending);
  assert.equal(record, null);
  assert.match(String(unknown), /not known to be published yet/);

  await noteDroppedDay(lab.environment.DATABASE_URL ?? '', 40);
  const gone = await trace(idOfDay(40));
  assert.deepEqual([gone.row, gone.dayDropped], [null, true]);

  assert.equal((await api.request('GET', `/v1/ops/events/${v7()}`)).status, 404);
  assert.equal((await api.request('GET', '/v1/ops/events/nonsense')).status, 422);
  for (const as of ['viewer', 'writer'] as const)
    assert.equal((await api.request('GET', `/v1/ops/events/${letter}`, { as })).status, 403, as);
  assert.equal((await ferry('nonsense')).code, 2);
  assert.equal((await ferry(v7())).code, 1);
});

test('what cannot be reached is said, and the rest is shown', async () => {
  const { code, stdout } = await promisify(execFile)(
    process.execPath,
    [join(import.meta.dirname, '../../src/main.ts'), 'trace', String(ids[2])],
    { env: { ...process.env, ...lab.environment, KAFKA_BROKERS: '127.0.0.1:1' } },
  ).then(
    (done) => ({ code: 0, ...done }),
    (error: { code: number; stdout: string }) => error,
  );
  assert.equal(code, 0);
  assert.match(stdout, /order c, version 1/);
  assert.match(stdout, /not known\n.*Kafka.*127\.0\.0\.1:1/);
});
