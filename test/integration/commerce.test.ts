/** The commerce example over HTTP, on a real Postgres: its rules hold whatever happens at once. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { formatAmount, parseAmount } from '../../src/domain/commerce/money.ts';
import { testApi } from '../support/api.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const api = await testApi(stack);

const orderOf = (customerId: string, unitPrice = '10.00', quantity = 2) => ({
  customerId,
  currency: 'EUR',
  lines: [{ sku: 'TEA-1', quantity, unitPrice }],
});
const place = (body: unknown) => api.request('POST', '/v1/orders', { as: 'writer', body });
const creditOf = async (customerId: string) => (await api.request('GET', `/v1/customers/${customerId}`)).body;

describe('an order', () => {
  it('is placed with its events and its audit row in one transaction', async () => {
    const customerId = await api.customer('100.00');
    const address = { name: 'Ada Müller', street: 'Kanalstraße 7', postalCode: '10115', city: 'Berlin', country: 'DE' };
    const lines = [
      { sku: 'TEA-1', quantity: 2, unitPrice: '4.50' },
      { sku: 'CUP-9', quantity: 1, unitPrice: '0.10' },
    ];
    const placed = await place({
      customerId,
      currency: 'EUR',
      lines,
      customerEmail: 'ada@example.com',
      shippingAddress: address,
    });
    assert.equal(placed.status, 201, placed.text);
    assert.equal(placed.body.total, '9.10');
    const { id, eventId } = placed.body;

    const read = await api.request('GET', String(placed.headers.location), { as: 'viewer' });
    const { eventId: _, ...summary } = placed.body;
    assert.deepEqual(read.body, {
      ...summary,
      lines,
      customerEmail: 'ada@example.com',
      shippingAddress: address,
      saga: null,
    });

    const { rows } = await api.pool.query(
      `select o.id, o.aggregatetype, o.aggregateid, o.aggregateversion, o.type, o.payload, count(*) over (partition by o.tx) as together
       from ferry.outbox o where o.payload->>'orderId' = $1 order by o.seq`,
      [id],
    );
    assert.deepEqual(
      rows.map((row) => [row.aggregatetype, row.aggregateid, row.aggregateversion, row.type, row.together]),
      [
        ['order', id, 1n, 'commerce.OrderPlaced', 2n],
        ['customer', customerId, 1n, 'commerce.CreditReserved', 2n],
      ],
    );
    assert.equal(rows[0]?.id, eventId);
    assert.deepEqual(rows[0]?.payload, {
      orderId: id,
      customerId,
      customerEmail: 'ada@example.com',
      currency: 'EUR',
      lines,
      total: '9.10',
      shippingAddress: address,
      placedAt: placed.body.placedAt,
    });
    const audit = await api.pool.query('select action, event_id, request_id from ferry.audit where subject = $1', [
      `order/${id}`,
    ]);
    assert.deepEqual(audit.rows, [
      { action: 'order.place', event_id: eventId, request_id: placed.headers['x-request-id'] },
    ]);
  });

  it('is refused by the rules, and nothing of it is written', async () => {
    const customerId = await api.customer('19.99');
    const refused = async (body: object, rule: RegExp, path: string) => {
      const answer = await place({ ...orderOf(customerId), ...body });
      assert.equal(answer.status, 422, answer.text);
      assert.equal(answer.body.code, 'BUSINESS_RULE');
      assert.match(String(answer.body.detail), rule);
      assert.equal((answer.body.errors as Array<{ path: string }>)[0]?.path, path);
    };
    await refused({}, /credit does not cover/, '/lines');
    await refused({ customerId: 'nobody' }, /no such customer/, '/customerId');
    await refused({ currency: 'USD' }, /credit is in EUR/, '/currency');
    await refused({ total: '20.01' }, /come to 20\.00/, '/total');
    await refused({ lines: [...orderOf('x').lines, ...orderOf('x').lines] }, /one line only/, '/lines/1/sku');
    assert.equal((await creditOf(customerId)).creditReserved, '0.00');
    const { rows } = await api.pool.query('select 1 from ferry.outbox where aggregateid = $1', [customerId]);
    assert.equal(rows.length, 0);
  });

  it('is cancelled once, and its credit is free again', async () => {
    const customerId = await api.customer('20.00');
    const { body: order } = await place(orderOf(customerId));
    assert.equal((await place(orderOf(customerId))).status, 422);
    const cancel = () =>
      api.request('POST', `/v1/orders/${order.id}/cancel`, {
        as: 'writer',
        body: { reason: 'OUT_OF_STOCK', note: 'sorry' },
      });
    const answers = await Promise.all([cancel(), cancel(), cancel()]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409, 409]);
    const cancelled = answers.find(({ status }) => status === 200)?.body;
    assert.deepEqual([cancelled?.status, cancelled?.version], ['cancelled', 2]);
    assert.deepEqual(await creditOf(customerId), {
      id: customerId,
      currency: 'EUR',
      creditLimit: '20.00',
      creditReserved: '0.00',
      creditAvailable: '20.00',
    });
    assert.equal((await place(orderOf(customerId))).status, 201);
    assert.equal((await api.request('POST', `/v1/orders/${randomUUID()}/cancel`, { body: {} })).status, 404);
  });
});

describe('the list of orders', () => {
  it('goes page by page through all of them, newest first, each once', async () => {
    const customerId = await api.customer('1000.00');
    const ids: unknown[] = [];
    for (let i = 0; i < 7; i++) ids.push((await place(orderOf(customerId))).body.id);
    const seen: unknown[] = [];
    let cursor = '';
    for (let page = 0; page < 4; page++) {
      const query = `customerId=${customerId}&limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const { body, text } = await api.request('GET', `/v1/orders?${query}`, { as: 'viewer' });
      seen.push(...(body.orders as Array<{ id: string }>).map(({ id }) => id));
      if (body.nextCursor === null) break;
      cursor = String(body.nextCursor);
      assert.ok(page < 3, text);
    }
    assert.deepEqual(seen, ids.reverse());
    await api.request('POST', `/v1/orders/${ids[0]}/cancel`, { body: {} });
    const { body } = await api.request('GET', `/v1/orders?customerId=${customerId}&status=cancelled`);
    assert.deepEqual(
      (body.orders as Array<{ id: string }>).map(({ id }) => id),
      [ids[0]],
    );
  });
});

describe('credit', () => {
  it('is never overspent by 50 orders at once, and no order is refused that it would have covered', async () => {
    const price = fc.integer({ min: 1, max: 2_000 });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 20_000 }),
        fc.array(price, { minLength: 50, maxLength: 50 }),
        async (limit, prices) => {
          const customerId = await api.customer(formatAmount(BigInt(limit)));
          const answers = await Promise.all(
            prices.map((cents) => place(orderOf(customerId, formatAmount(BigInt(cents)), 1))),
          );
          const accepted = answers
            .filter(({ status }) => status === 201)
            .map(({ body }) => parseAmount(String(body.total)));
          const refused = prices.filter((_, index) => answers[index]?.status === 422);
          assert.equal(accepted.length + refused.length, 50, answers.map(({ status }) => status).join());
          const spent = accepted.reduce<bigint>((sum, total) => sum + total, 0n);
          const credit = await creditOf(customerId);
          assert.equal(credit.creditReserved, formatAmount(spent));
          assert.ok(spent <= BigInt(limit), `spent ${spent} of ${limit}`);
          for (const cents of refused)
            assert.ok(BigInt(cents) > BigInt(limit) - spent, `${cents} fits into ${limit} - ${spent}`);

          const { rows } = await api.pool.query<{ version: bigint; available: string }>(
            `select aggregateversion as version, payload->>'available' as available from ferry.outbox
           where aggregatetype = 'customer' and aggregateid = $1 order by aggregateversion`,
            [customerId],
          );
          assert.deepEqual(
            rows.map(({ version }) => version),
            accepted.map((_, index) => BigInt(index + 1)),
          );
          assert.equal(rows.at(-1)?.available ?? formatAmount(BigInt(limit)), credit.creditAvailable);
        },
      ),
      { numRuns: 8 },
    );
  });

  it('is spent and released at once without a deadlock that anybody sees', async () => {
    const customerId = await api.customer('200.00');
    const orders = await Promise.all(Array.from({ length: 10 }, () => place(orderOf(customerId))));
    const mixed = await Promise.all(
      orders.flatMap(({ body }) => [
        api.request('POST', `/v1/orders/${body.id}/cancel`, { as: 'writer', body: {} }),
        place(orderOf(customerId)),
      ]),
    );
    assert.deepEqual(
      new Set(mixed.map(({ status }) => status).filter((status) => ![200, 201, 422].includes(status))),
      new Set(),
    );
    const { rows } = await api.pool.query<{ total: bigint }>(
      `select coalesce(sum(total), 0)::bigint as total from commerce.orders where customer_id = $1 and status = 'placed'`,
      [customerId],
    );
    assert.equal((await creditOf(customerId)).creditReserved, formatAmount(rows[0]?.total ?? -1n));
  });
});

describe('answers', () => {
  it('have the form that the contract says', async () => {
    const contract = api.app.swagger() as unknown as {
      paths: Record<
        string,
        Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>
      >;
    };
    const schemaOf = (path: string, method: string, status: number) =>
      contract.paths[path]?.[method]?.responses[status]?.content['application/json']?.schema ?? assert.fail(path);
    const customerId = await api.customer('100.00');
    const placed = await place(orderOf(customerId));
    const one = await api.request('GET', `/v1/orders/${placed.body.id}`);
    const list = await api.request('GET', '/v1/orders');
    assert.ok(Value.Check(schemaOf('/v1/orders', 'post', 201), placed.body), placed.text);
    assert.ok(Value.Check(schemaOf('/v1/orders/{id}', 'get', 200), one.body), one.text);
    assert.ok(Value.Check(schemaOf('/v1/orders', 'get', 200), list.body), list.text);
    assert.ok(Value.Check(schemaOf('/v1/customers/{id}', 'get', 200), await creditOf(customerId)));
  });
});
