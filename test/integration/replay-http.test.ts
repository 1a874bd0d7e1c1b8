/** Replays as people begin and follow them: over HTTP, for operators only, and on the command line. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startService } from '../../src/app/service.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import type { RunningService } from '../../src/cli/service.ts';
import { createPool } from '../../src/postgres/connection.ts';
import { testApi } from '../support/api.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const api = await testApi(stack);
const random = createRandom(3);
const select = { aggregateType: 'order' };
const start = (more: object = {}, idempotencyKey: string = randomUUID()) =>
  api.request('POST', '/v1/ops/replays', {
    as: 'operator',
    body: { select, reason: 'because', ...more },
    idempotencyKey,
  });
const operate = (id: unknown, action: string, body: object = { reason: 'because' }) =>
  api.request('POST', `/v1/ops/replays/${id}/${action}`, { as: 'operator', body });

before(async () => {
  for (let version = 1; version <= 3; version++) {
    await api.pool.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, aggregateversion, type, payload) values ('order', 'o-1', $1, 'commerce.OrderPlaced', $2)`,
      [version, JSON.stringify(orderPlaced(random))],
    );
  }
});

describe('over HTTP, a replay', () => {
  test('is begun once for an Idempotency-Key, shown, listed page by page, stopped and let go on', async () => {
    const key = randomUUID();
    const first = await start({ topic: `${stack.topicPrefix}aside`, eventsPerSecond: 10 }, key);
    assert.equal(first.status, 201, first.text);
    const again = await start({ topic: `${stack.topicPrefix}aside`, eventsPerSecond: 10 }, key);
    assert.deepEqual([again.body.id, again.headers['idempotency-replayed']], [first.body.id, 'true']);
    const { id } = first.body;
    assert.equal(first.headers.location, `/v1/ops/replays/${id}`);
    const shown = await api.request('GET', `/v1/ops/replays/${id}`, { as: 'operator' });
    assert.deepEqual(
      [shown.body.state, shown.body.select, shown.body.newIds, shown.body.reason, shown.body.relayLagBytes],
      ['checking', select, false, 'because', null],
    );
    assert.equal('snapshot' in shown.body, false);
    assert.equal((await operate(id, 'pause')).body.state, 'paused');
    const conflict = await operate(id, 'pause');
    assert.deepEqual([conflict.status, conflict.body.code], [409, 'CONFLICT']);
    assert.equal((await operate(id, 'resume')).body.state, 'checking');
    assert.equal((await operate(id, 'cancel')).body.state, 'cancelled');
    assert.equal((await operate(id, 'resume')).status, 409);

    const others = [await start(), await start()].map(({ body }) => body.id);
    const found: unknown[] = [];
    for (let cursor: unknown = ''; cursor !== null; ) {
      const query = `limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const { body } = await api.request('GET', `/v1/ops/replays?${query}`, { as: 'operator' });
      found.push(...(body.replays as Array<{ id: string }>).map((replay) => replay.id));
      cursor = body.nextCursor;
    }
    assert.deepEqual(found, [...others.toReversed(), id]);
    const cancelled = await api.request('GET', '/v1/ops/replays?state=cancelled', { as: 'operator' });
    assert.deepEqual(
      (cancelled.body.replays as Array<{ id: string }>).map((replay) => replay.id),
      [id],
    );
  });

  test('is of a participant’s own database where that is asked for, with its own relay', async () => {
    const payment = createPool({ DATABASE_URL: await stack.createDatabase(), POSTGRES_TLS: 'auto' }, 'payment', {
      max: 2,
    });
    after(() => payment.end());
    const main = { pool: api.pool, relay: stack.relayName };
    const databases = new Map([
      ['main', main],
      ['payment', { pool: payment, relay: `${stack.relayName}_payment` }],
    ] as const);
    const apart = await testApi(stack, { overrides: { databases } });
    await payment.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload) values ('order', 'o-9', 'commerce.OrderPlaced', $1)`,
      [JSON.stringify(orderPlaced(random))],
    );
    const ask = (method: 'GET' | 'POST', path: string, body?: object) =>
      apart.request(method, path, { as: 'operator', ...(body === undefined ? {} : { body }) });
    const begun = await ask('POST', '/v1/ops/replays?database=payment', { select, reason: 'because' });
    assert.equal(begun.status, 201, begun.text);
    const { id } = begun.body;
    assert.equal(begun.headers.location, `/v1/ops/replays/${id}?database=payment`);
    const idsIn = async (database: string) =>
      ((await ask('GET', `/v1/ops/replays?database=${database}`)).body.replays as Array<{ id: string }>).map(
        (one) => one.id,
      );
    assert.deepEqual(await idsIn('payment'), [id]);
    assert.equal((await idsIn('main')).includes(String(id)), false);
    const { rows } = await payment.query('select relay, audit.action from ferry.replay, ferry.audit');
    assert.deepEqual(rows, [{ relay: `${stack.relayName}_payment`, action: 'replay.start' }]);
    const paused = await ask('POST', `/v1/ops/replays/${id}/pause?database=payment`, { reason: 'because' });
    assert.equal(paused.body.state, 'paused');
    const elsewhere = await ask('GET', `/v1/ops/replays/${id}`);
    const unknown = await ask('GET', '/v1/ops/replays?database=shipping');
    assert.deepEqual([elsewhere.status, unknown.status, unknown.body.code], [404, 422, 'INVALID_REQUEST']);
    assert.match(String(unknown.body.detail), /shipping/);
  });

  test('is counted without being begun', async () => {
    const before = await api.pool.query('select from ferry.replay');
    const { status, body, text } = await start({ dryRun: true });
    assert.equal(status, 200, text);
    assert.equal(body.events, 3);
    const topic = `${stack.topicPrefix}order`;
    assert.deepEqual(body.lines, [
      { aggregateType: 'order', type: 'commerce.OrderPlaced', topic, events: 3, deadLettered: 0, schemaUnknown: 3 },
    ]);
    assert.deepEqual(body.topics, [{ topic, groups: [] }]);
    assert.equal((await api.pool.query('select from ferry.replay')).rowCount, before.rowCount);
  });

  test('names the field at fault', async () => {
    const wrong: Array<[object, string]> = [
      [{ select: {} }, 'INVALID_REQUEST'],
      [{ select: { eventIds: [] } }, 'INVALID_REQUEST'],
      [{ select: { eventIds: ['x'] } }, 'INVALID_REQUEST'],
      [{ select: { lsnFrom: 'x' } }, 'INVALID_REQUEST'],
      [{ select: { recordedFrom: 'yesterday' } }, 'INVALID_REQUEST'],
      [{ select: { colour: 'blue' } }, 'INVALID_REQUEST'],
      [{ reason: '' }, 'INVALID_REQUEST'],
      [{ eventsPerSecond: 0 }, 'INVALID_REQUEST'],
      [{ topic: `${stack.topicPrefix}order.dlq` }, 'REPLAY_TOPIC_INVALID'],
      [{ topic: `${stack.topicPrefix}order.dlq`, dryRun: true }, 'REPLAY_TOPIC_INVALID'],
      [{ topic: `ferry.checkpoint.${stack.relayName}` }, 'REPLAY_TOPIC_INVALID'],
    ];
    for (const [body, code] of wrong) {
      const answer = await start(body);
      assert.deepEqual([answer.status, answer.body.code], [422, code], JSON.stringify(body));
    }
    assert.equal((await operate(randomUUID(), 'pause')).status, 422, 'no UUIDv7');
    assert.equal((await operate('01900000-0000-7000-8000-000000000000', 'pause')).status, 404);
    assert.equal((await operate((await start()).body.id, 'pause', {})).status, 422, 'no reason');
  });

  test('is for operators: other roles are refused on every route', async () => {
    const { id } = (await start()).body;
    const body = { select, reason: 'x' };
    for (const as of ['viewer', 'writer'] as const) {
      const answers = [
        await api.request('GET', '/v1/ops/replays', { as }),
        await api.request('GET', `/v1/ops/replays/${id}`, { as }),
        await api.request('POST', '/v1/ops/replays', { as, body }),
        await api.request('POST', '/v1/ops/replays', { as, body: { ...body, dryRun: true } }),
      ];
      for (const action of ['pause', 'resume', 'cancel']) {
        answers.push(await api.request('POST', `/v1/ops/replays/${id}/${action}`, { as, body: { reason: 'x' } }));
      }
      assert.deepEqual(
        answers.map(({ status, body: problem }) => `${status} ${problem.code}`),
        answers.map(() => '403 FORBIDDEN'),
      );
    }
    assert.equal((await api.request('GET', `/v1/ops/replays/${id}`, { as: 'operator' })).body.state, 'checking');
  });

  test('asks no more of the database than the API’s role may', async () => {
    const { id } = (await start()).body;
    const client = await api.pool.connect();
    try {
      await client.query('begin; set local role ferry_api');
      await client.query('select * from ferry.outbox_fact limit 1');
      await client.query(`update ferry.replay set state = 'cancelled' where id = $1`, [id]);
      await assert.rejects(client.query('select payload from ferry.outbox'), { code: '42501' });
    } finally {
      await client.query('rollback');
      client.release();
    }
  });
});

describe('./ferry replay', { timeout: 180_000 }, () => {
  let service: RunningService;
  const MAIN = join(import.meta.dirname, '../../src/main.ts');
  const ferry = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      const env = { ...stack.environment, PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE };
      execFile(process.execPath, [MAIN, 'replay', ...args], { env }, (error, stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
      );
    });
  const aside = `${stack.topicPrefix}aside`;
  const selection = ['--aggregate-id', 'o-1', '--topic', aside];

  before(async () => {
    await api.pool.query(`update ferry.replay set state = 'cancelled', ended_at = now() where ended_at is null`);
    // Of an aggregate of their own, and more than are published while somebody types.
    const payload = JSON.stringify(orderPlaced(random));
    await api.pool.query(
      `insert into ferry.outbox (aggregatetype, aggregateid, type, payload)
       select 'order', 'o-2', 'commerce.OrderPlaced', $1 from generate_series(1, 500)`,
      [payload],
    );
    await pushAllSchemas(stack.config);
    service = await startService({ ...stack.config, LOG_LEVEL: 'silent', FERRY_ROLES: 'relay,ops' });
  });
  after(() => service.stop());

  test('counts, publishes while one watches, and shows what was done', async () => {
    const counted = await ferry('start', ...selection, '--dry-run');
    assert.equal(counted.code, 0, counted.stderr);
    assert.match(counted.stdout, /3 events; nothing was published/);
    const { code, stdout, stderr } = await ferry(
      'start',
      ...selection,
      '--reason',
      'the projection was lost',
      '--wait',
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /state +completed: 3 of 3 published/);
    assert.match(stderr, /completed: 3 of 3 published/);
    const [, id = ''] = /replay +([0-9a-f-]{36})/.exec(stdout) ?? [];
    assert.match((await ferry('show', id)).stdout, /the projection was lost \(cli:/);
    assert.equal(JSON.parse((await ferry('show', id, '--json')).stdout).emitted, '3');
    assert.match((await ferry('list', '--state', 'completed')).stdout, new RegExp(`${id} +completed +3 +3 +${aside}`));
    const refused = await ferry('cancel', id, '--reason', 'x');
    assert.deepEqual([refused.code, /is completed.*\[CONFLICT\]/s.test(refused.stderr)], [1, true]);
  });

  test('stops one and lets it go on', async () => {
    const { stdout } = await ferry('start', '--aggregate-id', 'o-2', '--rate', '1', '--reason', 'slowly', '--json');
    const { id } = JSON.parse(stdout);
    const paused = await ferry('pause', id, '--reason', 'not now');
    assert.match(paused.stdout, /^pause: paused/);
    assert.match((await ferry('resume', id, '--reason', 'now')).stdout, /^resume: (checking|running)/);
    assert.match((await ferry('cancel', id, '--reason', 'enough')).stdout, /^cancel: cancelled/);
  });

  test('wrong usage is exit code 2', async () => {
    for (const args of [
      ['show'],
      ['pause', 'x', '--reason', 'x'],
      ['start', '--reason', 'x'],
      ['start', ...selection],
      ['start', '--event-id', 'x', '--reason', 'x'],
      ['start', '--lsn-from', 'x', '--reason', 'x'],
      ['list', '--state', 'lost'],
    ]) {
      assert.equal((await ferry(...args)).code, 2, args.join(' '));
    }
  });
});
