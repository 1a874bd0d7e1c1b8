/**
 * The whole fulfilment with the real orchestrator, participants, Postgres and provider, over a bus that repeats, fails and comes late: every saga ends, done
 * or fully undone, and money and stock are where the orders say.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placeOrder, setCustomerCredit } from '../../src/domain/commerce/commands.ts';
import { fulfilment, fulfilmentOf } from '../../src/domain/commerce/fulfilment.ts';
import { parseAmount } from '../../src/domain/commerce/money.ts';
import { orderParticipant } from '../../src/domain/commerce/participant.ts';
import { isRefusedOnPurpose } from '../../src/domain/injected-refusal.ts';
import { inventoryParticipant } from '../../src/domain/inventory/participant.ts';
import { receiveStock } from '../../src/domain/inventory/repository.ts';
import { httpPaymentProvider } from '../../src/domain/payment/http-provider.ts';
import { paymentParticipant } from '../../src/domain/payment/participant.ts';
import { shippingParticipant } from '../../src/domain/shipping/participant.ts';
import type { OrderPlaced } from '../../src/events/generated/payloads.ts';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { SagaEngine } from '../../src/saga/engine.ts';
import { handle, participantLab } from '../support/participant-lab.ts';
import { testPaymentProvider } from '../support/payment-provider.ts';
import { createRandom } from '../support/random.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { testStack } from '../support/stack.ts';
import { UnreliableBus } from '../support/unreliable-bus.ts';

const ORDERS = 60;
const CUSTOMERS = 5;
const SKUS = ['TEA', 'CUP', 'POT'];
/** Of each article: about two thirds of what is ordered. */
const PIECES = 80;
const ACTOR = { principal: 'test', requestId: null };
/** Of a tenth of the orders each of these is never answered, so that its outcome is unknown: it must be undone like one that was done. */
const NEVER_ANSWERED = ['commerce.CapturePayment', 'commerce.ReserveStock', 'commerce.ArrangeShipment'];
/** Enough for most of them to end under faults. */
const FAULTY_TURNS = 250;
const RELIABLE = { twice: 0, rolledBack: 0, deadLettered: 0, deadLetteredAfterFailure: 0 };

const lab = await participantLab(await testStack());
const atProvider = await testPaymentProvider();
const seed = Math.floor(Math.random() * 2 ** 31);
const random = createRandom(seed);

const provider = httpPaymentProvider({ url: atProvider.url, timeoutMs: 300 });
const parts = { ...lab.parts, faultPercent: 8 };
const participants = [
  orderParticipant(parts),
  paymentParticipant({ ...parts, provider }),
  inventoryParticipant({ ...parts, reservationTtlMs: 3_600_000 }),
  shippingParticipant(parts),
];
const engine = new SagaEngine({ sagas: [fulfilment], logger: quiet.logger, metrics: quiet.metrics });
const replies = new Set(engine.replyTypes);

async function deliver(event: ConsumedEvent, tx: Queryable, attempt: number): Promise<boolean> {
  if (event.type === 'commerce.OrderPlaced') {
    const data = fulfilmentOf(event.value as OrderPlaced);
    await engine.start(tx, fulfilment, { key: data.orderId, data });
    return true;
  }
  const participant = participants.find(({ handlers }) => handlers.has(event.type));
  if (participant !== undefined) await handle(participant, event, tx, attempt);
  if (replies.has(event.type)) await engine.handleReply(tx, event);
  return participant !== undefined || replies.has(event.type);
}

const bus = new UnreliableBus({
  pool: lab.pool,
  random,
  handle: deliver,
  mayBeDeadLettered: ({ type }) => type !== 'commerce.OrderPlaced',
  isDoomed: ({ type, aggregateId }) => {
    const step = NEVER_ANSWERED.indexOf(type);
    return step >= 0 && isRefusedOnPurpose(10, aggregateId ?? '', `doomed ${step}`);
  },
});

async function placeOrders(): Promise<void> {
  await receiveStock(
    lab.pool,
    SKUS.map((sku) => ({ sku, quantity: PIECES })),
  );
  const creditLimit = parseAmount('1000000.00');
  for (let customer = 0; customer < CUSTOMERS; customer++) {
    const request = { customerId: `c-${customer}`, currency: 'EUR', creditLimit } as const;
    await transaction(lab.pool, (tx) => setCustomerCredit(tx, ACTOR, request));
  }
  for (let order = 0; order < ORDERS; order++) {
    const lines = SKUS.filter(() => random.chance(0.7)).map((sku) => ({
      sku,
      quantity: random.between(1, 5),
      unitPrice: parseAmount(`${random.between(1, 40)}.50`),
    }));
    const request = {
      customerId: `c-${random.between(0, CUSTOMERS - 1)}`,
      currency: 'EUR',
      lines: lines.length === 0 ? [{ sku: 'TEA', quantity: 1, unitPrice: parseAmount('3.50') }] : lines,
      total: null,
      customerEmail: null,
      shippingAddress: null,
    } as const;
    await transaction(lab.pool, (tx) => placeOrder(tx, lab.parts.events, ACTOR, request));
  }
}

/** Lets some time-outs come now, whatever the clock says. */
async function hurry(share: number): Promise<void> {
  await lab.pool.query('update ferry.saga set due_at = clock_timestamp() where due_at is not null and random() < $1', [
    share,
  ]);
  await engine.runDueTimers(lab.pool, 100);
}

/** What an operator does with those whose undo was lost too often. */
async function retryWhatFailed(): Promise<void> {
  const { rows } = await lab.pool.query<{ id: string }>(
    `select id from ferry.saga where state = 'compensation_failed'`,
  );
  const operation = { action: 'retry', actor: 'test', reason: 'the bus is reliable again' } as const;
  for (const { id } of rows) {
    await transaction(lab.pool, (tx) => engine.operate(tx, { sagaId: id, ...operation }));
  }
}

async function count(sql: string): Promise<Record<string, number>> {
  const { rows } = await lab.pool.query<{ name: string; count: bigint }>(sql);
  return Object.fromEntries(rows.map(({ name, count }) => [name, Number(count)]));
}

test('every order ends completed or fully undone, with money and stock where it says', async (t) => {
  t.diagnostic(`seed ${seed}`);
  await engine.register(lab.pool);
  await placeOrders();

  const faults = { twice: 0.15, rolledBack: 0.1, deadLettered: 0.04, deadLetteredAfterFailure: 0.3 };
  await atProvider.setFaults({ failureRate: 0.05, lostAnswerRate: 0.1, duplicateRate: 0.1, declineRate: 0.05 });
  for (let turn = 1; turn <= FAULTY_TURNS; turn++) {
    const left = await bus.turn(12, faults);
    if (left === 0 || turn % 10 === 0) await hurry(0.1);
  }
  await atProvider.setFaults({});
  const open = async () => (await count(`select 'open' as name, count(*) from ferry.saga where ended_at is null`)).open;
  for (let round = 0; round < 400; round++) {
    const left = await bus.turn(12, RELIABLE);
    if (left > 0) continue;
    if ((await open()) === 0) break;
    await retryWhatFailed();
    await hurry(1);
  }
  const replayed = bus.replayDeadLetters();
  while ((await bus.turn(12, RELIABLE)) > 0);
  assert.equal(await open(), 0, 'a dead letter that comes late ends in the same');

  const states = await count('select state as name, count(*) from ferry.saga group by state');
  t.diagnostic(JSON.stringify({ ...states, replayed }));
  assert.deepEqual(Object.keys(states).sort(), ['compensated', 'completed'], `seed ${seed}`);
  assert.equal((states.completed ?? 0) + (states.compensated ?? 0), ORDERS);
  await assertConserved();
});

async function assertConserved(): Promise<void> {
  // Each order's rows in all modules at once: what it says of itself and what was done for it.
  const { rows } = await lab.pool.query<Record<'saga' | 'orders' | 'payment' | 'reservation' | 'shipment', string>>(
    `select distinct s.state as saga, o.status as orders, coalesce(p.status, 'none') as payment,
            coalesce(r.status, 'none') as reservation, coalesce(h.status, 'none') as shipment
     from ferry.saga s join commerce.orders o on o.id::text = s.key
     left join payment.payments p on p.payment_id = o.id
     left join inventory.reservations r on r.order_id = o.id
     left join shipping.shipments h on h.order_id = o.id`,
  );
  const undone = { payment: ['none', 'failed', 'refunded'], reservation: ['none', 'refused', 'released'] };
  for (const { saga, orders, payment, reservation, shipment } of rows) {
    if (saga === 'completed') {
      const all = [orders, payment, reservation, shipment];
      assert.deepEqual(all, ['completed', 'captured', 'issued', 'handed-over'], `seed ${seed}`);
      continue;
    }
    assert.equal(orders, 'cancelled', `seed ${seed}`);
    assert.ok(undone.payment.includes(payment), `${payment}, seed ${seed}`);
    assert.ok(undone.reservation.includes(reservation), `${reservation}, seed ${seed}`);
    assert.ok(['none', 'refused', 'cancelled'].includes(shipment), `${shipment}, seed ${seed}`);
  }

  const sums = await count(
    `select 'ledger' as name, coalesce(sum(amount), 0) as count from payment.ledger
     union all select 'reserved', sum(reserved) from inventory.stock
     union all select 'shipped', sum(shipped) from inventory.stock
     union all select 'ordered', coalesce(sum(l.quantity), 0) from commerce.order_lines l
       join commerce.orders o on o.id = l.order_id and o.status = 'completed'
     union all select 'credit', sum(credit_reserved) from commerce.customers
     union all select 'sold', coalesce(sum(total), 0) from commerce.orders where status = 'completed'
     union all select 'earned', coalesce(sum(amount), 0) from payment.ledger where account = 'provider'`,
  );
  assert.deepEqual([sums.ledger, sums.reserved, sums.credit], [0, 0, 0], `seed ${seed}`);
  assert.equal(sums.shipped, sums.ordered, `seed ${seed}`);
  assert.equal(sums.earned, sums.sold, `seed ${seed}`);
  const charged = (await atProvider.charges()).filter(({ status }) => status === 'captured' || status === 'authorised');
  assert.ok(
    charged.every(({ status }) => status === 'captured'),
    'no money is held for nothing',
  );
  const taken = charged.reduce((sum, { amount }) => sum + Number(amount.replace('.', '')), 0);
  assert.equal(taken, sums.sold, `seed ${seed}`);
}
