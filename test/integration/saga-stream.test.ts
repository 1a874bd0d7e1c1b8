/** An order's fulfilment as server-sent events, over real sockets: resumed without a gap, ended with the saga, the client or the server. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createApiKey } from '../../src/domain/access/api-key.ts';
import { followSaga } from '../../src/http/order-stream-routes.ts';
import { SagaFeed } from '../../src/ops/saga-feed.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { testApi } from '../support/api.ts';
import { FulfilmentScript, OVER_THE_PIVOT } from '../support/fulfilment-script.ts';
import { blindEncoder, testServer } from '../support/http-server.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const api = await testApi(stack);
const script = new FulfilmentScript(api.pool);
const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
let key = '';
let customerId = '';

before(async () => {
  await script.register();
  key = await createApiKey(api.pool, { name: 'follower', role: 'viewer' });
  customerId = await api.customer('100000.00');
});

async function order(): Promise<string> {
  const lines = [{ sku: 'TEA-1', quantity: 2, unitPrice: '10.00' }];
  const { body, text } = await api.request('POST', '/v1/orders', { body: { customerId, currency: 'EUR', lines } });
  assert.ok(typeof body.id === 'string', text);
  return body.id;
}

interface Received {
  readonly id: string | null;
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A client that notes what it gets; `cut` drops the connection. */
class Follower {
  readonly received: Received[] = [];
  readonly #cut = new AbortController();
  /** Whether the server ended the stream. */
  ended = false;
  status = 0;
  #rest = '';

  static async open(orderId: string, { lastEventId, at = url }: { lastEventId?: string; at?: string } = {}) {
    const follower = new Follower();
    const response = await fetch(`${at}/v1/orders/${orderId}/events`, {
      headers: {
        authorization: `Bearer ${key}`,
        ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
      },
      signal: follower.#cut.signal,
    });
    follower.status = response.status;
    if (response.status === 200) {
      assert.match(String(response.headers.get('content-type')), /^text\/event-stream/);
      assert.equal(response.headers.get('cache-control'), 'no-store');
    }
    void follower.#read(response);
    return follower;
  }

  get ids(): string[] {
    return this.received.flatMap(({ id }) => id ?? []);
  }

  cut(): void {
    this.#cut.abort();
  }

  async #read(response: Response): Promise<void> {
    try {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) this.#take(chunk);
      this.ended = true;
    } catch {
      // cut
    }
  }

  #take(chunk: string): void {
    const frames = (this.#rest + chunk).split('\n\n');
    this.#rest = frames.pop() ?? '';
    for (const frame of frames) {
      const fields = new Map(frame.split('\n').map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      const event = fields.get('event');
      if (event === undefined) continue;
      this.received.push({ id: fields.get('id') ?? null, event, data: JSON.parse(fields.get('data') ?? '') });
    }
  }
}

const historyIds = async (sagaId: string) => {
  const { rows } = await api.pool.query<{ id: bigint }>(
    'select id from ferry.saga_history where saga_id = $1 order by id',
    [sagaId],
  );
  return rows.map(({ id }) => String(id));
};

describe('GET /v1/orders/{id}/events', { timeout: 120_000 }, () => {
  test('waits for the saga to begin, tells each transition once, and ends with it', async () => {
    const orderId = await order();
    const follower = await Follower.open(orderId);
    const sagaId = await script.start(orderId);
    await waitUntil('the start to be told', () => follower.received.length > 0);
    await script.answer(sagaId, 'commerce.PaymentCaptured', 'commerce.StockRefused');
    await script.answer(sagaId, 'commerce.PaymentRefunded', 'commerce.OrderCancelled');
    await waitUntil('the stream to end', () => follower.ended);
    assert.deepEqual(follower.ids, await historyIds(sagaId));
    assert.deepEqual(follower.received[0]?.data, {
      ...{ sagaId, at: follower.received[0]?.data.at, cause: 'start', step: null, from: null, to: 'running' },
      ...{ purpose: null, attempt: null },
    });
    const last = follower.received.at(-1);
    assert.deepEqual([last?.event, last?.id, last?.data], ['end', null, { sagaId, state: 'compensated' }]);
    assert.doesNotMatch(JSON.stringify(follower.received), /shelf/, 'words of participants are for operators');
  });

  test('resumed after cuts at any moment, it has neither a gap nor a repetition', async () => {
    const orderId = await order();
    const sagaId = await script.start(orderId);
    const told: string[] = [];
    const steps = [...OVER_THE_PIVOT, 'commerce.StockIssued', 'commerce.OrderCompleted'] as const;
    for (const [index, step] of steps.entries()) {
      const lastEventId = told.at(-1);
      const follower = await Follower.open(orderId, lastEventId === undefined ? {} : { lastEventId });
      // Cut now before, now after what happens next is told.
      if (index % 2 === 0) await waitUntil('what was missed to be told', () => follower.received.length > 0);
      await script.answer(sagaId, step);
      follower.cut();
      told.push(...follower.ids);
    }
    const rest = await Follower.open(orderId, { lastEventId: told.at(-1) ?? '0' });
    await waitUntil('the stream to end', () => rest.ended);
    assert.deepEqual([...told, ...rest.ids], await historyIds(sagaId));
    const afterTheEnd = await Follower.open(orderId, { lastEventId: rest.ids.at(-1) ?? '0' });
    await waitUntil('the stream to end', () => afterTheEnd.ended);
    assert.deepEqual(
      afterTheEnd.received.map(({ event }) => event),
      ['end'],
    );
  });

  test('tells a history of several pages whole', async () => {
    const orderId = await order();
    const sagaId = await script.start(orderId, ['commerce.PaymentFailed', 'commerce.OrderCancelled']);
    await api.pool.query(
      `insert into ferry.saga_history (saga_id, cause, from_state, to_state)
       select $1, 'late-reply', 'compensated', 'compensated' from generate_series(1, 250)`,
      [sagaId],
    );
    const follower = await Follower.open(orderId);
    await waitUntil('the stream to end', () => follower.ended);
    assert.deepEqual(follower.ids, await historyIds(sagaId));
  });

  test('refuses an order that there is not, and an id that is none', async () => {
    assert.equal((await Follower.open(randomUUID())).status, 404);
    assert.equal((await Follower.open(await order(), { lastEventId: 'x' })).status, 422);
  });

  test('a server that stops ends its streams, and does not wait for them', async () => {
    const other = await testServer({ databaseUrl: stack.databaseUrl, encoder: blindEncoder });
    const at = await other.listen({ host: '127.0.0.1', port: 0 });
    const orderId = await order();
    await script.start(orderId);
    const followers = [await Follower.open(orderId, { at }), await Follower.open(await order(), { at })];
    await waitUntil('the first transitions', () => followers[0]?.received.length);
    await other.close();
    await waitUntil('the streams to end', () => followers.every(({ ended }) => ended));
    assert.ok(followers.every(({ received }) => received.every(({ event }) => event !== 'end')));
  });
});

describe('the feed', { timeout: 60_000 }, () => {
  /** The real database, with a count of the questions to it. */
  const counted = () => {
    const db = {
      asked: 0,
      fails: false,
      query: (async (text, values) => {
        db.asked++;
        if (db.fails) throw new Error('away');
        return api.pool.query(text, values);
      }) as Queryable['query'],
    };
    return db;
  };
  const feedOn = (db: Queryable) => new SagaFeed({ db, saga: 'fulfilment', logger: quiet.logger, pollMs: 20 });

  test('asks once for all followers, and not at all when nobody waits', async () => {
    const db = counted();
    const feed = feedOn(db);
    const keys = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const orderId = randomUUID();
        await script.start(orderId);
        return orderId;
      }),
    );
    const { signal } = new AbortController();
    const told = await Promise.all(keys.map((key) => feed.next({ key, after: 0n, timeoutMs: 10_000, signal })));
    assert.ok(told.every((progress) => progress?.transitions.length === 2));
    assert.ok(db.asked <= 2, `${db.asked} questions`);
    const { asked } = db;
    await delay(100);
    assert.equal(db.asked, asked);
  });

  test('lets go of a client that is gone, and sends heartbeats to one that stays', async () => {
    const db = counted();
    const feed = feedOn(db);
    const gone = new AbortController();
    const stream = followSaga(feed, {
      key: randomUUID(),
      after: 0n,
      heartbeatMs: 30,
      maxMs: 60_000,
      signal: gone.signal,
    });
    assert.deepEqual(await stream.next(), { done: false, value: null });
    assert.deepEqual(await stream.next(), { done: false, value: null });
    const last = stream.next();
    gone.abort();
    assert.deepEqual(await last, { done: true, value: undefined });
    const bounded = followSaga(feed, {
      key: randomUUID(),
      after: 0n,
      heartbeatMs: 10,
      maxMs: 50,
      signal: new AbortController().signal,
    });
    for await (const beat of bounded) assert.equal(beat, null);
  });

  test('waits through an outage of Postgres', async () => {
    const db = counted();
    db.fails = true;
    const orderId = randomUUID();
    await script.start(orderId);
    const waiting = feedOn(db).next({
      key: orderId,
      after: 0n,
      timeoutMs: 30_000,
      signal: new AbortController().signal,
    });
    await waitUntil('a question that fails', () => db.asked > 0);
    db.fails = false;
    assert.equal((await waiting)?.transitions.length, 2);
  });
});

after(async () => {
  // Nothing may be left running: the file would not end.
  await api.app.close();
});
