import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Amount, MAX_AMOUNT } from '../../../../src/domain/commerce/money.ts';
import {
  checkOrderRequest,
  checkTransition,
  MAX_LINES,
  MAX_QUANTITY,
  type OrderLine,
  type OrderRequest,
} from '../../../../src/domain/commerce/order.ts';
import type { FerryError } from '../../../../src/kernel/errors.ts';

const cents = (amount: bigint) => amount as Amount;
const line = (sku: string, quantity: number, unitPrice: bigint): OrderLine => ({
  sku,
  quantity,
  unitPrice: cents(unitPrice),
});
const request = (lines: readonly OrderLine[], total: bigint | null = null): OrderRequest => ({
  customerId: 'ada',
  currency: 'EUR',
  lines,
  total: total === null ? null : cents(total),
  customerEmail: null,
  shippingAddress: null,
});
const breaks = (rule: string, path: string, order: OrderRequest) =>
  assert.throws(
    () => checkOrderRequest(order),
    (error: FerryError) => error.code === 'BUSINESS_RULE' && error.details.rule === rule && error.details.path === path,
  );

describe('checkOrderRequest', () => {
  it('adds up the lines to the last cent', () => {
    const anyLine = fc.tuple(fc.integer({ min: 1, max: 100 }), fc.bigInt({ min: 1n, max: 1_000_000n }));
    fc.assert(
      fc.property(fc.array(anyLine, { minLength: 1, maxLength: MAX_LINES }), (lines) => {
        const total = lines.reduce((sum, [quantity, price]) => sum + BigInt(quantity) * price, 0n);
        const order = lines.map(([quantity, price], index) => line(`sku-${index}`, quantity, price));
        assert.equal(checkOrderRequest(request(order, total)), total);
        breaks('order-total', '/total', request(order, total + 1n));
      }),
    );
  });

  it('names the rule and the field that broke it', () => {
    breaks('order-lines', '/lines', request([]));
    breaks(
      'order-lines',
      '/lines',
      request(Array.from({ length: MAX_LINES + 1 }, (_, index) => line(`${index}`, 1, 1n))),
    );
    breaks('line-quantity', '/lines/1/quantity', request([line('a', 1, 1n), line('b', MAX_QUANTITY + 1, 1n)]));
    breaks('line-quantity', '/lines/0/quantity', request([line('a', 1.5, 1n)]));
    breaks('sku-once', '/lines/1/sku', request([line('a', 1, 1n), line('a', 1, 1n)]));
    breaks('order-total', '/lines', request([line('a', 1, 0n)]));
    breaks('order-total', '/lines', request([line('a', 2, MAX_AMOUNT)]));
  });
});

describe('checkTransition', () => {
  it('lets a placed order be cancelled, once', () => {
    checkTransition({ id: '1', status: 'placed' }, 'cancelled');
    assert.throws(() => checkTransition({ id: '1', status: 'placed' }, 'placed'), { code: 'CONFLICT' });
    assert.throws(() => checkTransition({ id: '1', status: 'cancelled' }, 'cancelled'), { code: 'CONFLICT' });
    assert.throws(() => checkTransition({ id: '1', status: 'cancelled' }, 'placed'), { code: 'CONFLICT' });
  });
});
