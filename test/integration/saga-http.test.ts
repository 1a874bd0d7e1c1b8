/** Sagas as people meet them, on real parts: found and shown over HTTP, followed as they go, operated when they wait; and the command line. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startService } from '../../src/app/service.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { findSaga, listSagas } from '../../src/ops/sagas.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { testApi } from '../support/api.ts';
import { FulfilmentScript, OVER_THE_PIVOT } from '../support/fulfilment-script.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const api = await testApi(stack);
const script = new FulfilmentScript(api.pool);
before(() => script.register());

type Row = Readonly<Record<string, unknown>>;

const show = async (id: string) => (await api.request('GET', `/v1/sagas/${id}`, { as: 'viewer' })).body;
const list = async (query: string) => {
  const { status, body, text } = await api.request('GET', `/v1/sagas?${query}`, { as: 'viewer' });
  assert.equal(status, 200, text);
  return body as { sagas: Row[]; nextCursor: string | null };
};
const operate = (
  id: string,
  action: string,
  reason: string | null = 'because',
  idempotencyKey: string = randomUUID(),
) =>
  api.request('POST', `/v1/ops/sagas/${id}/${action}`, {
    as: 'operator',
    body: reason === null ? {} : { reason },
    idempotencyKey,
  });
const auditOf = async (id: string) => {
  const { rows } = await api.pool.query<Row>(
    'select principal, action, reason from ferry.audit where subject = $1 order by id',
    [`saga/${id}`],
  );
  return rows;
};

/** A saga that is stuck behind its pivot, because the stock is refused. */
const stuckSaga = () => script.start(randomUUID(), [...OVER_THE_PIVOT, 'commerce.StockRefused']);
/** A saga whose shipment cannot be cancelled, however often it is tried. */
async function failedCompensation(): Promise<string> {
  const id = await script.start(randomUUID(), [
    'commerce.PaymentCaptured',
    'commerce.StockReserved',
    'commerce.ShipmentArranged',
    'commerce.OrderConfirmed',
    'commerce.HandOverFailed',
  ]);
  await script.expire(id, 4);
  await script.answer(id, 'commerce.ShipmentNotCancellable');
  return id;
}

describe('GET /v1/sagas', () => {
  test('finds by name, state, key, step and time, page by page', async () => {
    const key = randomUUID();
    const ids = [await script.start(), await script.start(key, ['commerce.PaymentCaptured']), await script.start()];
    const [, second] = ids;
    assert.deepEqual(
      (await list(`key=${key}`)).sagas.map(({ id }) => id),
      [second],
    );
    assert.deepEqual(
      (await list(`step=inventory&key=${key}`)).sagas.map(({ id, state }) => [id, state]),
      [[second, 'running']],
    );
    assert.deepEqual((await list(`step=payment&key=${key}`)).sagas, []);
    assert.deepEqual((await list(`name=trip&key=${key}`)).sagas, []);
    assert.deepEqual((await list(`state=stuck&key=${key}`)).sagas, []);
    const started = String((await show(String(second))).startedAt);
    assert.equal((await list(`key=${key}&startedAfter=${started}`)).sagas.length, 1);
    assert.equal((await list(`key=${key}&startedBefore=${started}`)).sagas.length, 0);

    const all = await list('limit=100');
    assert.deepEqual(
      all.sagas.slice(0, 3).map(({ id }) => id),
      ids.toReversed(),
      'the newest first',
    );
    const pages: unknown[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page = await list(`limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`);
      pages.push(...page.sagas.map(({ id }) => id));
      cursor = page.nextCursor;
    }
    assert.deepEqual(
      pages,
      all.sagas.map(({ id }) => id),
    );
  });

  test('refuses times and states that there are not', async () => {
    for (const query of [
      'state=lost',
      'startedAfter=yesterday',
      'startedAfter=2026-13-45T00:00:00Z',
      'cursor=x',
      'what=1',
    ]) {
      const { status, body } = await api.request('GET', `/v1/sagas?${query}`);
      assert.deepEqual([status, body.code], [422, 'INVALID_REQUEST'], query);
    }
  });

  test('tells codes, and neither data nor words of participants', async () => {
    const id = await script.start(randomUUID(), ['commerce.PaymentFailed']);
    const { text, body } = await api.request('GET', '/v1/sagas?state=compensating');
    assert.equal((body.sagas as Row[]).find((saga) => saga.id === id)?.errorCode, 'SAGA_STEP_REFUSED');
    assert.doesNotMatch(text, /card|TEA-1|20\.00/);
  });
});

describe('GET /v1/sagas/{id}', () => {
  test('shows steps and history, each command and reply with its event, key, topic, LSN and trace', async () => {
    const orderId = randomUUID();
    const id = await script.start(orderId, ['commerce.PaymentCaptured', 'commerce.StockRefused']);
    const saga = await show(id);
    assert.deepEqual([saga.state, saga.step, saga.errorCode], ['compensating', 'payment', 'SAGA_STEP_REFUSED']);
    assert.equal(saga.error, 'inventory: the shelf is empty');
    assert.equal(saga.traceId, orderId.replaceAll('-', ''));
    const steps = saga.steps as Row[];
    assert.deepEqual(
      steps.map(({ step, state }) => `${step} ${state}`),
      ['order done', 'payment undoing', 'inventory refused'],
    );
    const history = saga.history as Array<Row & { event: Row | null }>;
    assert.deepEqual(
      history.map(({ cause, step, from, to }) => [cause, step, from, to].join(' ')),
      [
        'start   running',
        'command payment pending sent',
        'reply payment sent done',
        'command inventory pending sent',
        'reply inventory sent refused',
        'reply  running compensating',
        'command payment done undoing',
      ],
    );
    const captured = history[2]?.event;
    assert.deepEqual(
      { type: captured?.type, topic: captured?.topic, key: captured?.key, status: captured?.status },
      { type: 'commerce.PaymentCaptured', topic: `${stack.topicPrefix}payment`, key: orderId, status: 'pending' },
    );
    assert.match(String(captured?.lsn), /^[0-9A-F]+\/[0-9A-F]+$/);
    assert.equal(history[1]?.event?.traceId, saga.traceId);
    assert.equal(history[4]?.reason, 'the shelf is empty');
    assert.ok(history.every(({ event, eventId }) => (event === null) === (eventId === null)));
    assert.doesNotMatch(JSON.stringify(saga), /TEA-1/);
  });

  test('404 for none', async () => {
    const { status, body } = await api.request('GET', `/v1/sagas/${randomUUID()}`);
    assert.deepEqual([status, body.code], [404, 'NOT_FOUND']);
  });

  test('asks no more of the database than the API’s role may', async () => {
    const id = await script.start(randomUUID(), ['commerce.PaymentCaptured']);
    await transaction(api.pool, async (tx) => {
      await tx.query('set local role ferry_api');
      assert.equal((await findSaga(tx, id, stack.relayName))?.history.length, 4);
      const filter = { name: null, state: null, key: null, step: null, startedAfter: null, startedBefore: null };
      assert.ok((await listSagas(tx, { ...filter, before: null, limit: 1 })).length === 1);
      await assert.rejects(tx.query('select payload from ferry.outbox'), { code: '42501' });
      throw new Error('done');
    }).catch((error: Error) => assert.equal(error.message, 'done'));
  });
});

describe('an operator', () => {
  test('retries a stuck step: in the history and the audit with the reason, once for an Idempotency-Key', async () => {
    const id = await stuckSaga();
    const key = randomUUID();
    const first = await operate(id, 'retry', 'the shelf was filled', key);
    assert.deepEqual([first.status, first.body.state, first.body.step], [200, 'running', 'stock-out'], first.text);
    const again = await operate(id, 'retry', 'the shelf was filled', key);
    assert.deepEqual([again.text, again.headers['idempotency-replayed']], [first.text, 'true']);
    const audit = await auditOf(id);
    assert.deepEqual(
      audit.map(({ action, reason }) => [action, reason]),
      [['saga.retry', 'the shelf was filled']],
    );
    const history = (await show(id)).history as Row[];
    const acts = history.filter(({ actor }) => actor !== null);
    assert.deepEqual(
      acts.map(({ actor, reason, step }) => ({ actor, reason, step })),
      acts.map(({ step }) => ({ actor: audit[0]?.principal, reason: 'the shelf was filled', step })),
    );
    assert.ok(acts.length > 0);
    await script.answer(id, 'commerce.StockIssued', 'commerce.OrderCompleted');
    assert.equal((await show(id)).state, 'completed');
  });

  test('skips a stuck step, and the rest goes on', async () => {
    const id = await stuckSaga();
    const { status, body } = await operate(id, 'skip');
    assert.deepEqual([status, body.state, body.step], [200, 'running', 'completion']);
  });

  test('skips a step that may still happen: it is undone first, and waits like every other where that fails', async () => {
    const id = await script.start(randomUUID(), ['commerce.PaymentCaptured']);
    const { status, body } = await operate(id, 'skip');
    assert.deepEqual([status, body.state, body.step], [200, 'running', 'inventory']);
    await script.expire(id, 4);
    await script.answer(id, 'commerce.StockRefused');
    const stuck = await show(id);
    assert.deepEqual([stuck.state, stuck.step, stuck.errorCode], ['stuck', 'inventory', 'SAGA_STEP_REFUSED']);
    assert.equal((stuck.steps as Row[]).find(({ step }) => step === 'inventory')?.state, 'undo_failed');
    await operate(id, 'retry');
    await script.answer(id, 'commerce.StockReleased');
    const { state, step, errorCode } = await show(id);
    assert.deepEqual([state, step, errorCode], ['running', 'shipping', null]);
  });

  test('skips an undo that fails, and the rest is undone', async () => {
    const id = await failedCompensation();
    assert.equal((await show(id)).state, 'compensation_failed');
    const { status, body } = await operate(id, 'skip');
    assert.deepEqual([status, body.state, body.step], [200, 'compensating', 'inventory']);
    await script.answer(id, 'commerce.StockReleased', 'commerce.PaymentRefunded', 'commerce.OrderCancelled');
    assert.equal((await show(id)).state, 'compensated');
  });

  test('cancels after the step in flight, or at once', async () => {
    const cancelled = await script.start();
    const { body } = await operate(cancelled, 'cancel');
    assert.deepEqual([body.state, body.step, body.cancelling], ['running', 'payment', true]);
    await script.answer(cancelled, 'commerce.PaymentCaptured');
    assert.equal((await show(cancelled)).state, 'compensating');
    const compensated = await script.start();
    const forced = await operate(compensated, 'compensate');
    assert.deepEqual([forced.body.state, forced.body.step], ['compensating', 'payment']);
  });

  test('is told the state where an action does not apply, and nothing is written', async () => {
    const stuck = await stuckSaga();
    const ended = await script.start(randomUUID(), ['commerce.PaymentFailed', 'commerce.OrderCancelled']);
    for (const [id, action, message] of [
      [stuck, 'cancel', /pivot/],
      [stuck, 'compensate', /pivot/],
      [ended, 'retry', /ended/],
      [ended, 'skip', /ended/],
    ] as const) {
      const before = await show(id);
      const { status, body } = await operate(id, action);
      assert.deepEqual([status, body.code], [409, 'CONFLICT'], action);
      assert.match(String(body.detail), message);
      assert.deepEqual(await show(id), before);
      assert.deepEqual(await auditOf(id), []);
    }
    assert.equal((await operate(randomUUID(), 'retry')).status, 404);
  });

  test('gives a reason, and is an operator', async () => {
    const id = await stuckSaga();
    assert.equal((await operate(id, 'retry', null)).status, 422);
    assert.equal((await operate(id, 'retry', '')).status, 422);
    const writer = await api.request('POST', `/v1/ops/sagas/${id}/retry`, { as: 'writer', body: { reason: 'x' } });
    assert.equal(writer.status, 403);
    assert.equal((await show(id)).state, 'stuck');
  });
});

describe('GET /v1/orders/{id}', () => {
  test('shows how far the fulfilment is', async () => {
    const body = {
      customerId: await api.customer('100.00'),
      currency: 'EUR',
      lines: [{ sku: 'TEA-1', quantity: 2, unitPrice: '10.00' }],
    };
    const orderId = String((await api.request('POST', '/v1/orders', { body })).body.id);
    const sagaOf = async () => (await api.request('GET', `/v1/orders/${orderId}`)).body.saga;
    assert.equal(await sagaOf(), null);
    const id = await script.start(orderId, ['commerce.PaymentCaptured']);
    const { changedAt } = await show(id);
    assert.deepEqual(await sagaOf(), { id, state: 'running', step: 'inventory', since: changedAt });
  });
});

describe('./ferry sagas', { timeout: 120_000 }, () => {
  const MAIN = join(import.meta.dirname, '../../src/main.ts');
  const ferry = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      const env = { ...stack.environment, PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE };
      execFile(process.execPath, [MAIN, 'sagas', ...args], { env }, (error, stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
      );
    });

  test('lists, with filters, as a table or as JSON', async () => {
    const key = randomUUID();
    const id = await script.start(key, [...OVER_THE_PIVOT, 'commerce.StockRefused']);
    await script.start();
    const { code, stdout, stderr } = await ferry('list', '--state', 'stuck', '--key', key);
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`${id} +fulfilment +${key} +stuck +stock-out`));
    const { sagas, more } = JSON.parse((await ferry('list', '--json', '--limit', '1')).stdout);
    assert.deepEqual([sagas.length, more], [1, true]);
  });

  test('shows the history with where each record is in Kafka', async () => {
    const config = { ...stack.config, LOG_LEVEL: 'silent', FERRY_ROLES: 'relay' } as const;
    await pushAllSchemas(config);
    const relay = await startService(config);
    after(() => relay.stop());
    const orderId = randomUUID();
    const id = await script.start(orderId, [...OVER_THE_PIVOT, 'commerce.StockRefused']);
    const published = async () => {
      const { history } = await show(id);
      return (history as Array<{ event: Row | null }>).every(
        ({ event }) => event === null || event.status === 'published',
      );
    };
    await waitUntil('the saga’s events to be published', published, { deadlineMs: 60_000 });
    const { code, stdout, stderr } = await ferry('show', id, '--offsets');
    assert.equal(code, 0, stderr);
    const command = stdout.split('\n').find((line) => line.includes('command do 1') && line.includes('payment'));
    assert.match(
      command ?? '',
      /commerce\.CapturePayment [0-9a-f-]{36} +[0-9A-F]+\/[0-9A-F]+ +\S*commerce\.payment-command\/\d+@\d+/,
    );
    assert.match(stdout, /reply do 1 +stock-out +sent → refused .*the shelf is empty/);
    const { records, history } = JSON.parse((await ferry('show', id, '--offsets', '--json')).stdout);
    for (const { eventId } of history) {
      if (eventId !== null) assert.ok(records[eventId].offset !== null && records[eventId].commitLsn !== null, eventId);
    }
  });

  test('acts, with a reason and an audit row of who it was', async () => {
    const id = await stuckSaga();
    const { code, stdout, stderr } = await ferry('retry', id, '--reason', 'the shelf was filled');
    assert.equal(code, 0, stderr);
    assert.equal(stdout, `retry: saga ${id} is running, step stock-out\n`);
    const [audit] = await auditOf(id);
    assert.match(String(audit?.principal), /^cli:/);
    assert.deepEqual([audit?.action, audit?.reason], ['saga.retry', 'the shelf was filled']);
    const refused = await ferry('compensate', id, '--reason', 'x');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /not possible on this saga.*\[CONFLICT\]/s);
  });

  test('wrong usage is exit code 2', async () => {
    for (const args of [
      ['retry', randomUUID()],
      ['show'],
      ['show', 'x'],
      ['list', '--state', 'lost'],
      ['list', '--started-after', 'x'],
    ]) {
      assert.equal((await ferry(...args)).code, 2, args.join(' '));
    }
  });
});
