/** Dead letters as operators meet them: over HTTP and at the command line; who may see what, and what is asked of an edited payload. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { v7 as uuidv7 } from 'uuid';
import { readLetter } from '../../src/deadletter/letter.ts';
import { enterLetter } from '../../src/deadletter/letter-store.ts';
import { readPayload } from '../../src/deadletter/payload.ts';
import { discardedOfRelay, forgetSettled, settledTypes } from '../../src/deadletter/told-letters.ts';
import { ROLES } from '../../src/domain/access/api-key.ts';
import { deadLetterHeaders } from '../../src/events/dead-letter.ts';
import { discardLetter, retryLetter, retryLetters } from '../../src/ops/dead-letter-actions.ts';
import { findDeadLetter, listCauses, listDeadLetters } from '../../src/ops/dead-letters.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { testApi } from '../support/api.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const api = await testApi(stack);
const decoder = createDecoder({ store: new SchemaStore(createRegistryClient({ url: stack.registryUrl })) });
const ORDERS = `${stack.topicPrefix}order`;

const NONE = {
  ...{
    type: null,
    code: null,
    topic: null,
    key: null,
    group: null,
    state: null,
    failedAfter: null,
    failedBefore: null,
  },
};

type Body = Record<string, unknown>;
interface Sample {
  readonly payload?: unknown;
  readonly code?: string;
  readonly type?: string;
  readonly group?: string | null;
  readonly key?: string;
  readonly failedAt?: string;
  readonly eventId?: string;
}

const order = (change: object = {}) => ({
  ...{
    orderId: randomUUID(),
    customerId: 'ada',
    currency: 'EUR',
    total: '20.00',
    placedAt: '2026-01-02T03:04:05.678901Z',
  },
  ...{ lines: [{ sku: 'TEA-1', quantity: 2, unitPrice: '10.00' }], customerEmail: 'ada@example.com' },
  ...change,
});

let offsets = 0n;
/** Enters a dead letter as the projection does; resolves with its id. */
async function enter(sample: Sample = {}): Promise<string> {
  const {
    payload = order(),
    code = 'SCHEMA_MISMATCH',
    group = null,
    key = 'k',
    type = 'commerce.OrderPlaced',
  } = sample;
  const at = sample.failedAt ?? new Date().toISOString();
  const cause = {
    code,
    message: 'no',
    type: 'Refused',
    retryCount: 0,
    maxRetries: 0,
    firstFailedAt: at,
    failedAt: at,
    replayable: false,
  };
  const source = group === null ? { topic: ORDERS, lsn: '0/1', seq: 1 } : { topic: ORDERS, partition: 0, offset: '5' };
  const eventId = sample.eventId ?? uuidv7();
  const headers = {
    ce_id: eventId,
    ce_type: type,
    ...deadLetterHeaders(cause, source, 'value', group === null ? undefined : { group, blockedBy: null }),
  };
  const place = { topic: `${group ?? ORDERS}.dlq`, partition: 0, offset: offsets++, timestampMs: Date.now() };
  const value = Buffer.isBuffer(payload) ? payload : Buffer.from(JSON.stringify(payload));
  const letter = readLetter({ ...place, key: Buffer.from(key), value, headers });
  assert.ok(letter !== null);
  await enterLetter(api.pool, letter, await readPayload(value, decoder));
  const { rows } = await api.pool.query<{ id: string }>('select id from ferry.dead_letter where event_id = $1', [
    eventId,
  ]);
  return rows[0]?.id ?? '';
}

const get = (path: string, as: (typeof ROLES)[number] = 'operator') =>
  api.request('GET', `/v1/ops/dead-letters${path}`, { as });
const post = (path: string, body: object, as: (typeof ROLES)[number] = 'operator') =>
  api.request('POST', `/v1/ops/dead-letters${path}`, { as, body });
const idsOf = (body: Body) => (body.deadLetters as Array<{ id: string }>).map(({ id }) => id);
const auditOf = async (id: string) => {
  const { rows } = await api.pool.query<{ action: string; reason: string }>(
    'select action, reason from ferry.audit where subject = $1 order by id',
    [`dead-letter/${id}`],
  );
  return rows;
};

describe('dead letters over HTTP', () => {
  test('are listed newest first, page by page, by what they have in common', async () => {
    const group = `${stack.topicPrefix}listed`;
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      ids.push(
        await enter({
          group,
          code: i % 2 === 0 ? 'X' : 'Y',
          key: `k${i}`,
          failedAt: `2026-01-0${i + 1}T00:00:00.000Z`,
        }),
      );
    }
    const newest = [...ids].reverse();
    const first = (await get(`?group=${group}&limit=3`)).body;
    assert.deepEqual(idsOf(first), newest.slice(0, 3));
    const second = (await get(`?group=${group}&limit=3&cursor=${first.nextCursor}`)).body;
    assert.deepEqual([idsOf(second), second.nextCursor], [newest.slice(3), null]);
    const found = async (query: string) => idsOf((await get(`?group=${group}&${query}`)).body);
    assert.deepEqual(await found('code=Y'), [ids[3], ids[1]]);
    assert.deepEqual(await found('key=k2'), [ids[2]]);
    assert.deepEqual(await found(`topic=${group}.dlq`), newest);
    assert.deepEqual(await found(`topic=${ORDERS}&type=commerce.OrderPlaced&state=open`), newest);
    assert.deepEqual(await found('failedAfter=2026-01-02T00:00:00Z&failedBefore=2026-01-04T00:00:00Z'), [
      ids[2],
      ids[1],
    ]);
    assert.deepEqual(await found('state=resolved'), []);
    const { causes } = (await get(`/causes?group=${group}`)).body as { causes: Body[] };
    assert.deepEqual(
      causes.map(({ code, count, example }) => [code, count, example]),
      [
        ['X', 3, ids[4]],
        ['Y', 2, ids[3]],
      ],
    );
  });

  test('show personal data to admins only, and that is audited', async () => {
    const id = await enter({ payload: order({ total: 'much', emial: 'ada@example.org' }) });
    const shown = (await get(`/${id}`)).body;
    const payload = shown.payload as Body;
    assert.deepEqual([payload.customerEmail, payload.emial, payload.total], ['[redacted]', '[redacted]', 'much']);
    assert.deepEqual([shown.decoded, shown.state, shown.sourcePosition], [true, 'open', '0/1/1']);
    assert.doesNotMatch(JSON.stringify(shown), /ada@/);
    assert.deepEqual(await auditOf(id), []);
    const whole = (await get(`/${id}`, 'admin')).body;
    assert.equal((whole.payload as Body).customerEmail, 'ada@example.com');
    assert.equal((await auditOf(id)).length, 1);
    const raw = (await get(`/${id}/raw?reason=ticket%20123`, 'admin')).body;
    assert.match(Buffer.from(String(raw.value), 'base64').toString(), /ada@example.com/);
    assert.deepEqual((await auditOf(id)).at(-1), { action: 'dead-letter.read-raw', reason: 'ticket 123' });
    assert.equal((await get(`/${id}/raw`, 'admin')).status, 422, 'it takes a reason');
  });

  test('of which the schema is not known show nothing of the payload', async () => {
    const id = await enter({ type: 'commerce.Unheard', payload: { name: 'ada' } });
    assert.equal((await get(`/${id}`)).body.payload, '[redacted]');
    const bytes = await enter({ payload: Buffer.from([1, 2, 3]) });
    const { payload, decoded } = (await get(`/${bytes}`)).body;
    assert.deepEqual([payload, decoded], [null, false]);
  });

  test('are retried and discarded once, with a reason, and say so', async () => {
    const id = await enter();
    assert.equal((await post(`/${id}/retry`, {})).status, 422);
    const retried = await post(`/${id}/retry`, { reason: 'mended' });
    assert.deepEqual([retried.status, retried.body.state, retried.body.retries], [200, 'replaying', 1]);
    const again = await post(`/${id}/retry`, { reason: 'once more' });
    assert.deepEqual([again.status, again.body.code], [409, 'CONFLICT']);
    assert.match(String(again.body.detail), /is replaying/);
    const other = await enter();
    assert.equal((await post(`/${other}/discard`, { reason: 'a test order' })).body.state, 'discarded');
    assert.deepEqual(await auditOf(other), [{ action: 'dead-letter.discard', reason: 'a test order' }]);
    assert.equal((await post(`/${randomUUID()}/retry`, { reason: 'x' })).status, 404);
  });

  test('take an edited payload only if its schema does; what reads redacted is kept', async () => {
    const broken = order({ total: 'much' });
    const id = await enter({ payload: broken });
    const edit = (payload: unknown) => post(`/${id}/edit-and-retry`, { reason: 'a typo', payload });
    const refused = await edit({ ...broken, total: 'a lot' });
    assert.equal(refused.status, 422, refused.text);
    assert.equal(refused.body.code, 'SCHEMA_MISMATCH');
    assert.deepEqual((refused.body.errors as Body[])[0]?.path, '/payload/total');
    assert.equal((await get(`/${id}`)).body.state, 'open');
    const shown = (await get(`/${id}`)).body.payload as Body;
    const edited = await edit({ ...shown, total: '20.00' });
    assert.equal(edited.status, 200, edited.text);
    const after = (await get(`/${id}`, 'admin')).body;
    assert.deepEqual(after.patched, { ...broken, total: '20.00' });
    assert.deepEqual([(after.payload as Body).total, after.state], ['much', 'replaying']);
    const { rows } = await api.pool.query<{ value: Buffer }>(
      'select patched_value as value from ferry.dead_letter where id = $1',
      [id],
    );
    assert.equal(((await decoder.decode(rows[0]?.value ?? Buffer.alloc(0))).value as Body).total, '20.00');
  });

  test('take no edit that could never be handed to the relay', async () => {
    const id = await enter({ payload: order({ total: 'much' }) });
    const payload = order({ customerEmail: 'ada\u0000@example.com' });
    const refused = await post(`/${id}/edit-and-retry`, { reason: 'a typo', payload });
    assert.deepEqual([refused.status, refused.body.code], [422, 'INVALID_REQUEST'], refused.text);
    assert.match(String(refused.body.detail), /the payload .* U\+0000 .*: take it out/);
    const reason = 'x'.repeat(1_001);
    for (const act of [
      (tx: Queryable) => retryLetter(tx, { principal: 'cli:ada', requestId: null }, { id, reason }),
      (tx: Queryable) =>
        retryLetters(
          tx,
          { principal: 'cli:ada', requestId: null },
          { filter: { ...NONE, code: 'NONE' }, limit: 1, reason },
        ),
    ]) {
      await assert.rejects(transaction<unknown>(api.pool, act), {
        code: 'INVALID_REQUEST',
        message: /reason .* shorten it/,
      });
    }
    assert.equal((await get(`/${id}`)).body.state, 'open');
  });

  test('are retried many at once, bounded, and never all there are by mistake', async () => {
    const group = `${stack.topicPrefix}many`;
    for (let i = 0; i < 5; i++) await enter({ group, code: 'Z' });
    const all = await post('/retry', { reason: 'mended' });
    assert.deepEqual([all.status, all.body.code], [422, 'INVALID_REQUEST']);
    const some = await post('/retry', { reason: 'mended', group, code: 'Z', limit: 3 });
    assert.deepEqual(some.body, { retried: 3, more: true });
    assert.deepEqual((await post('/retry', { reason: 'mended', group })).body, { retried: 2, more: false });
    assert.deepEqual((await post('/retry', { reason: 'mended', group })).body, { retried: 0, more: false });
  });

  test('that were dealt with are open again when they fail anew', async () => {
    const eventId = uuidv7();
    const id = await enter({ eventId });
    await api.pool.query(`update ferry.dead_letter set state = 'resolved', state_at = now() where id = $1`, [id]);
    await enter({ eventId, failedAt: '2026-01-01T00:00:00.000Z', code: 'OLD' });
    assert.equal((await get(`/${id}`)).body.state, 'resolved', 'a copy that an earlier crash left');
    assert.equal(await enter({ eventId, failedAt: new Date(Date.now() + 1_000).toISOString(), code: 'NEW' }), id);
    const { state, copies, code } = (await get(`/${id}`)).body;
    assert.deepEqual([state, copies, code], ['open', 3, 'NEW']);
  });
});

test('what was dealt with is forgotten after the days of its type; what is open, or still held by a relay, never', async () => {
  const ids: Record<string, string> = {};
  for (const name of ['open', 'resolved', 'discarded', 'held', 'fresh', 'critical', 'typeless']) {
    ids[name] = await enter({ code: 'AGED' });
  }
  const set = (name: string, state: string, days: number) =>
    api.pool.query(
      `update ferry.dead_letter set state = $2, told_at = now(), state_at = now() - make_interval(days => $3) where id = $1`,
      [ids[name], state, days],
    );
  await set('open', 'open', 400);
  for (const name of ['resolved', 'discarded']) await set(name, name, 8);
  await set('held', 'discarded', 8);
  await set('fresh', 'resolved', 6);
  for (const [name, type] of [
    ['critical', 'aged.Critical'],
    ['typeless', null],
  ] as const) {
    await set(name, 'resolved', 8);
    await api.pool.query('update ferry.dead_letter set event_type = $2 where id = $1', [ids[name], type]);
  }
  const types = await settledTypes(api.pool);
  const kept = new Map(types.map((type) => [type, type === 'aged.Critical' ? 30 : 7]));
  const held = await findDeadLetter(api.pool, ids.held ?? '');
  const due = await discardedOfRelay(api.pool, kept);
  assert.ok(due.includes(held.eventId ?? ''));
  assert.equal(await forgetSettled(api.pool, kept, 1_000, [held.eventId ?? '']), 3);
  const left = (await listDeadLetters(api.pool, { ...NONE, code: 'AGED', before: null, limit: 10 })).map(
    ({ id }) => id,
  );
  assert.deepEqual(new Set(left), new Set([ids.open, ids.held, ids.fresh, ids.critical]));
});

describe('parked keys over HTTP', () => {
  const topic = `${stack.topicPrefix}order`;
  const keys = (query: string) => api.request('GET', `/v1/ops/parked-keys${query}`, { as: 'operator' });
  const release = (body: object, idempotencyKey: string = randomUUID()) =>
    api.request('POST', '/v1/ops/parked-keys/release', { as: 'operator', body, idempotencyKey });

  test('are listed with whose they are, and a group’s is released once, with a reason', async () => {
    const group = `${stack.topicPrefix}parking`;
    const eventId = uuidv7();
    await api.pool.query(
      `insert into ferry.parked_key (consumer_group, topic, key, source_partition, event_id, error_code, events, dead_letter_partition, dead_letter_offset)
       values ($1, $2, '\\xff00', 0, $3, 'UNEXPECTED', 3, 0, 0)`,
      [group, topic, eventId],
    );
    const listed = (await keys(`?group=${group}`)).body.keys as Body[];
    assert.deepEqual(
      listed.map(({ parkedAt, ...key }) => key),
      [
        {
          group,
          relay: null,
          topic,
          key: '0xff00',
          eventId,
          errorCode: 'UNEXPECTED',
          events: 3,
          releaseRequestedAt: null,
        },
      ],
    );
    assert.deepEqual((await keys('?group=nobody')).body.keys, []);

    const request = { group, topic, key: '0xff00', reason: 'mended' };
    const idempotencyKey = randomUUID();
    const [first, again] = [await release(request, idempotencyKey), await release(request, idempotencyKey)];
    assert.deepEqual([first.status, first.body, again.body], [200, { eventId }, { eventId }]);
    const [asked] = (await keys(`?group=${group}`)).body.keys as Body[];
    assert.ok(Date.parse(String(asked?.releaseRequestedAt)) > Date.now() - 60_000);
    const { rows } = await api.pool.query('select action, reason from ferry.audit where subject = $1', [
      `${group}/${topic}/0xff00`,
    ]);
    assert.deepEqual(rows, [{ action: 'parked-key.release', reason: 'mended' }]);
  });

  test('say what is missing or wrong', async () => {
    const asked = { topic, key: 'k', reason: 'mended' };
    const answers = [
      await release({ ...asked, group: 'nobody' }),
      await release({ ...asked, relay: 'nobody' }),
      await release(asked),
      await release({ ...asked, group: 'a', relay: 'b' }),
      await release({ group: 'a', topic, key: 'k' }),
      await keys('?group=a&relay=b'),
      await keys('?colour=red'),
    ];
    assert.deepEqual(
      answers.map(({ status, body }) => [status, body.code]),
      [[404, 'NOT_FOUND'], [404, 'NOT_FOUND'], ...Array(5).fill([422, 'INVALID_REQUEST'])],
    );
  });
});

test('every route for operators refuses the roles below its own', async () => {
  const document = JSON.parse(JSON.stringify(api.app.swagger())) as {
    paths: Record<string, Record<string, { 'x-ferry-role': string }>>;
  };
  let refused = 0;
  for (const [path, methods] of Object.entries(document.paths).filter(([name]) => name.startsWith('/v1/ops/'))) {
    for (const [method, operation] of Object.entries(methods)) {
      const needed = operation['x-ferry-role'];
      assert.ok(needed === 'operator' || needed === 'admin', path);
      for (const role of ROLES.slice(0, ROLES.indexOf(needed))) {
        const url = path.replaceAll(/\{\w+\}/g, uuidv7());
        const answer = await api.request(method.toUpperCase() as 'GET', url, {
          as: role,
          ...(method === 'get' ? {} : { body: {} }),
        });
        assert.deepEqual([answer.status, answer.body.code], [403, 'FORBIDDEN'], `${method} ${path} as ${role}`);
        refused += 1;
      }
    }
  }
  assert.ok(refused > 20);
});

test('the statements ask no more of the database than the API’s role may', async () => {
  const id = await enter();
  const client = await api.pool.connect();
  try {
    await client.query('begin');
    await client.query('set local role ferry_api');
    await listDeadLetters(client, { ...NONE, before: null, limit: 1 });
    await listCauses(client, NONE);
    await findDeadLetter(client, id);
    await discardLetter(client, { principal: 'p', requestId: null }, { id, reason: 'r' });
  } finally {
    await client.query('rollback');
    client.release();
  }
});

describe('./ferry dlq', { concurrency: 2 }, () => {
  const MAIN = join(import.meta.dirname, '../../src/main.ts');
  const dlq = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const env = { ...process.env, ...stack.environment };
      execFile(process.execPath, [MAIN, 'dlq', ...args], { env }, (error, stdout, stderr) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
      );
    });

  test('finds, shows, mends and discards', async () => {
    const group = `${stack.topicPrefix}cli`;
    const id = await enter({ group, payload: order({ total: 'much' }), key: 'a\u001b[2Jb' });
    const list = await dlq('list', '--group', group);
    assert.match(list.stdout, new RegExp(`${id} +${group} +commerce.OrderPlaced`));
    assert.ok(!list.stdout.includes('\u001b'), 'a key cannot move the cursor');
    assert.match((await dlq('causes', '--group', group)).stdout, /1 +\S+cli/);
    const shown = await dlq('show', id);
    assert.match(shown.stdout, /"customerEmail": "\[redacted\]"/);
    const whole = JSON.parse((await dlq('show', id, '--whole', '--reason', 'ticket', '--json')).stdout);
    assert.equal(whole.payload.customerEmail, 'ada@example.com');
    assert.deepEqual((await auditOf(id)).at(-1), { action: 'dead-letter.read-raw', reason: 'ticket' });
    const wrong = await dlq('edit', id, '--payload', '{"total":1}', '--reason', 'x');
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /SCHEMA_MISMATCH/);
    const edited = await dlq(
      'edit',
      id,
      '--payload',
      JSON.stringify({ ...whole.payload, total: '20.00' }),
      '--reason',
      'typo',
      '--json',
    );
    assert.deepEqual(JSON.parse(edited.stdout), { id, action: 'edit', reason: 'typo', state: 'replaying' });
    const other = await enter({ group });
    assert.match((await dlq('discard', other, '--reason', 'no')).stdout, /is discarded/);
  });

  test('says what is missing or wrong', async () => {
    const id = await enter();
    const attempts: Array<[args: string[], code: number, message: RegExp]> = [
      [['show'], 2, /takes the id of a dead letter/],
      [['discard', id], 2, /needs --reason/],
      [['edit', id, '--reason', 'x', '--payload', '{'], 2, /--payload is no JSON/],
      [['retry', '--reason', 'x'], 2, /takes an id, or some of --type/],
      [['retry', '--reason', 'x', '--code', 'X', '--state', 'resolved'], 2, /only open/],
      [['bury', id], 2, /value 'bury' is invalid/],
    ];
    for (const [args, code, message] of attempts) {
      const answer = await dlq(...args);
      assert.equal(answer.code, code, `${args.join(' ')}: ${answer.stderr}`);
      assert.match(answer.stderr, message);
    }
  });
});
