/** Payment on a real Postgres with the real provider process: each order is charged once or not at all, whatever comes and whatever is lost. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { parseAmount } from '../../src/domain/commerce/money.ts';
import { httpPaymentProvider } from '../../src/domain/payment/http-provider.ts';
import { paymentParticipant } from '../../src/domain/payment/participant.ts';
import type { PaymentProvider } from '../../src/domain/payment/provider.ts';
import { SAGA_HEADER } from '../../src/events/saga-headers.ts';
import { FerryError } from '../../src/kernel/errors.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { consumed, correlation, handleBatch, participantLab } from '../support/participant-lab.ts';
import { testPaymentProvider } from '../support/payment-provider.ts';
import { createRandom } from '../support/random.ts';
import { testStack } from '../support/stack.ts';

const lab = await participantLab(await testStack());
const atProvider = await testPaymentProvider();
const provider = httpPaymentProvider({ url: atProvider.url, timeoutMs: 500 });
const payment = paymentParticipant({ ...lab.parts, provider, faultPercent: 0 });

/** A saga's payment step of an order, as often as wanted. */
function paymentOf(orderId: string = randomUUID(), amount = '12.50') {
  const step = correlation('payment');
  const payload = { orderId, customerId: 'ada', currency: 'EUR', amount };
  return {
    orderId,
    key: `${step.sagaId}/payment`,
    capture: (attempt = 1) =>
      lab.carryOut(payment, { type: 'commerce.CapturePayment', payload, correlation: step, attempt }),
    refund: () =>
      lab.carryOut(payment, { type: 'commerce.RefundPayment', payload, correlation: { ...step, purpose: 'undo' } }),
  };
}

/** Type of the one answer, what it says that matters, and whether it repeats another. */
function said(answers: Awaited<ReturnType<typeof lab.carryOut>>): unknown[] {
  assert.equal(answers.length, 1);
  const { type, payload } = answers[0] ?? assert.fail();
  return [type.replace('commerce.', ''), payload.reason ?? payload.amount, payload.duplicate === true];
}

async function statusOf(orderId: string): Promise<string | undefined> {
  const { rows } = await lab.pool.query<{ status: string }>(
    'select status from payment.payments where payment_id = $1',
    [orderId],
  );
  return rows[0]?.status;
}

/** What is booked for an order, by account. */
async function booked(orderId: string): Promise<Record<string, bigint>> {
  const { rows } = await lab.pool.query<{ account: string; amount: bigint }>(
    'select account, sum(amount)::bigint as amount from payment.ledger where payment_id = $1 group by account',
    [orderId],
  );
  return Object.fromEntries(rows.map(({ account, amount }) => [account, amount]));
}

beforeEach(() => atProvider.setFaults({}));

describe('a capture', () => {
  test('takes the money, books it, and is answered with the saga’s headers', async () => {
    const { orderId, key, capture } = paymentOf();
    const [answer] = await capture();
    assert.deepEqual(
      [answer?.type, answer?.aggregatetype, answer?.aggregateid, answer?.payload.paymentId],
      ['commerce.PaymentCaptured', 'payment', orderId, orderId],
    );
    const sagaId = key.split('/')[0];
    assert.deepEqual(answer?.headers, {
      ...{ [SAGA_HEADER.saga]: sagaId, [SAGA_HEADER.step]: 'payment' },
      ...{ [SAGA_HEADER.purpose]: 'do', [SAGA_HEADER.attempt]: '1' },
    });
    assert.deepEqual(await booked(orderId), { provider: 1250n, sales: -1250n });
    assert.deepEqual(await atProvider.charge(key), { key, status: 'captured', amount: '12.50', currency: 'EUR' });
  });

  test('that is repeated gets the first result, marked as a duplicate', async () => {
    const { orderId, capture } = paymentOf();
    assert.deepEqual(said(await capture()), ['PaymentCaptured', '12.50', false]);
    assert.deepEqual(said(await capture()), ['PaymentCaptured', '12.50', true]);
    assert.deepEqual(await booked(orderId), { provider: 1250n, sales: -1250n });
  });

  test('that comes ten times at once is done once; the others wait for it', async () => {
    const { orderId, key, capture } = paymentOf();
    const answers = (await Promise.all(Array.from({ length: 10 }, () => capture()))).map(said);
    assert.equal(answers.filter(([, , duplicate]) => duplicate === false).length, 1);
    assert.deepEqual(new Set(answers.map(([type]) => type)), new Set(['PaymentCaptured']));
    assert.deepEqual(await booked(orderId), { provider: 1250n, sales: -1250n });
    assert.equal((await atProvider.charges()).filter((charge) => charge.key === key).length, 1);
  });

  test('of a payment that has another key is refused, and its undo leaves the payment alone', async () => {
    const first = paymentOf();
    const second = paymentOf(first.orderId);
    await first.capture();
    assert.deepEqual(said(await second.capture()), ['PaymentFailed', 'OTHER_KEY', false]);
    assert.equal(await atProvider.charge(second.key), undefined);
    assert.deepEqual(said(await second.refund()), ['PaymentRefunded', '0.00', false]);
    assert.equal(await statusOf(first.orderId), 'captured');
    assert.deepEqual(await booked(first.orderId), { provider: 1250n, sales: -1250n });
  });

  test('of a payment under its key with another amount is nobody’s answer: it is dead-lettered', async () => {
    const { orderId, key, capture } = paymentOf();
    await capture();
    const payload = { orderId, customerId: 'ada', currency: 'EUR', amount: '99.00' };
    const step = correlation('payment', { sagaId: key.split('/')[0] ?? '' });
    const command = { type: 'commerce.CapturePayment', payload, correlation: step } as const;
    await assert.rejects(lab.carryOut(payment, command), { name: 'NonRetryableError' });
  });

  test('that is declined stays declined, and nothing is booked', async () => {
    await atProvider.setFaults({ declineRate: 1 });
    const { orderId, capture, refund } = paymentOf();
    assert.deepEqual(said(await capture()), ['PaymentFailed', 'DECLINED', false]);
    await atProvider.setFaults({});
    assert.deepEqual(said(await capture()), ['PaymentFailed', 'DECLINED', true]);
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '0.00', true]);
    assert.deepEqual(await booked(orderId), {});
  });

  test('that is refused on purpose is refused at every try, and never reaches the provider', async () => {
    const refusing = paymentParticipant({ ...lab.parts, provider, faultPercent: 100 });
    const orderId = randomUUID();
    const step = correlation('payment');
    const payload = { orderId, customerId: 'ada', currency: 'EUR', amount: '1.00' };
    const command = { type: 'commerce.CapturePayment', payload, correlation: step } as const;
    assert.deepEqual(said(await lab.carryOut(refusing, command)), ['PaymentFailed', 'INJECTED', false]);
    assert.deepEqual(said(await lab.carryOut(payment, command)), ['PaymentFailed', 'INJECTED', true]);
    assert.equal(await atProvider.charge(`${step.sagaId}/payment`), undefined);
  });
});

describe('a refund', () => {
  test('gives back what was taken, once, and the books are as before', async () => {
    const { orderId, key, capture, refund } = paymentOf();
    await capture();
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '12.50', false]);
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '12.50', true]);
    assert.deepEqual(said(await capture()), ['PaymentFailed', 'CANCELLED', true]);
    assert.deepEqual(await booked(orderId), { provider: 0n, sales: 0n });
    assert.equal((await atProvider.charge(key))?.status, 'refunded');
  });

  test('of what was never taken gives back nothing, and a capture that comes later is refused', async () => {
    const { orderId, key, capture, refund } = paymentOf();
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '0.00', false]);
    assert.deepEqual(said(await capture()), ['PaymentFailed', 'CANCELLED', true]);
    assert.equal(await statusOf(orderId), 'failed');
    assert.deepEqual(await booked(orderId), {});
    assert.equal((await atProvider.charge(key))?.status, 'voided');
  });

  test('at the same time as the capture ends with nothing taken, whichever was first', async () => {
    for (let round = 0; round < 10; round++) {
      const { orderId, key, capture, refund } = paymentOf();
      await Promise.all(round % 2 === 0 ? [capture(), refund()] : [refund(), capture()]);
      assert.ok(['refunded', 'failed'].includes((await statusOf(orderId)) ?? ''));
      assert.ok(['refunded', 'voided'].includes((await atProvider.charge(key))?.status ?? ''));
      assert.ok(Object.values(await booked(orderId)).every((amount) => amount === 0n));
    }
  });
});

describe('a provider that', () => {
  afterEach(() => atProvider.part.start());

  test('fails, or does not answer, leaves the outcome open: nothing is written, and another try is made', async () => {
    for (const faults of [{ failureRate: 1 }, { timeoutRate: 1 }]) {
      const { orderId, capture } = paymentOf();
      await atProvider.setFaults(faults);
      await assert.rejects(capture(), { code: 'PART_UNREACHABLE' });
      assert.equal(await statusOf(orderId), undefined);
      await atProvider.setFaults({});
      assert.deepEqual(said(await capture(2)), ['PaymentCaptured', '12.50', false]);
    }
  });

  test('takes the money and loses the answer takes it once', async () => {
    const { orderId, key, capture } = paymentOf();
    await atProvider.setFaults({ lostAnswerRate: 1 });
    await assert.rejects(capture(), { code: 'PART_UNREACHABLE' });
    assert.equal((await atProvider.charge(key))?.status, 'authorised');
    await atProvider.setFaults({});
    assert.deepEqual(said(await capture(2)), ['PaymentCaptured', '12.50', false]);
    assert.deepEqual(await booked(orderId), { provider: 1250n, sales: -1250n });
  });

  test('takes the money while our transaction is lost is made to give it back by the undo', async () => {
    const { orderId, key, refund } = paymentOf();
    await provider.authorise(key, { currency: 'EUR', amount: parseAmount('12.50') });
    await provider.capture(key); // and then the process dies: no row of ours knows it
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '12.50', false]);
    assert.equal((await atProvider.charge(key))?.status, 'refunded');
    assert.equal(await statusOf(orderId), 'failed');
    assert.deepEqual(await booked(orderId), {});
  });

  test('takes a request for a repetition is asked what became of it', async () => {
    await atProvider.setFaults({ duplicateRate: 1 });
    const { key, capture, refund } = paymentOf();
    assert.deepEqual(said(await capture()), ['PaymentCaptured', '12.50', false]);
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '12.50', false]);
    assert.equal((await atProvider.charge(key))?.status, 'refunded');
  });

  test('fails to the last try but can still be told to cancel: then it is certain that nothing was taken', async () => {
    const { key, capture } = paymentOf();
    const failing: PaymentProvider = {
      ...provider,
      capture: async (charge) => {
        await provider.capture(charge);
        throw new FerryError('PART_UNREACHABLE', 'the answer was lost');
      },
    };
    const participant = paymentParticipant({ ...lab.parts, provider: failing, faultPercent: 0 });
    const sagaId = key.split('/')[0] ?? '';
    const payload = { orderId: randomUUID(), customerId: 'ada', currency: 'EUR', amount: '12.50' };
    const command = {
      type: 'commerce.CapturePayment',
      payload,
      correlation: correlation('payment', { sagaId }),
    } as const;
    await assert.rejects(lab.carryOut(participant, { ...command, attempt: 7 }), { code: 'PART_UNREACHABLE' });
    assert.equal((await atProvider.charge(key))?.status, 'captured');
    const last = await lab.carryOut(participant, { ...command, attempt: 8 });
    assert.deepEqual(said(last), ['PaymentFailed', 'PROVIDER_UNREACHABLE', false]);
    assert.equal((await atProvider.charge(key))?.status, 'refunded');
    assert.equal(await statusOf(payload.orderId), 'failed');
    await atProvider.setFaults({ failureRate: 1 });
    await assert.rejects(capture(8), { code: 'PART_UNREACHABLE' }); // not even that: the saga must find out
  });

  test('is killed remembers what it took', async () => {
    const { orderId, key, capture, refund } = paymentOf();
    await capture();
    await atProvider.part.kill();
    await assert.rejects(refund(), { code: 'PART_UNREACHABLE' });
    await atProvider.part.start();
    assert.deepEqual(said(await refund()), ['PaymentRefunded', '12.50', false]);
    assert.equal((await atProvider.charge(key))?.status, 'refunded');
    assert.deepEqual(await booked(orderId), { provider: 0n, sales: 0n });
  });

  test('does all of this at random takes from each customer what the books say', async () => {
    await atProvider.setFaults({ failureRate: 0.1, lostAnswerRate: 0.15, duplicateRate: 0.1, declineRate: 0.1 });
    const payments = Array.from({ length: 40 }, () => paymentOf());
    await Promise.all(
      payments.map(async ({ capture, refund }, index) => {
        await insistently(capture);
        if (index % 3 === 0) await insistently(refund);
      }),
    );
    await atProvider.setFaults({});
    for (const { orderId, key } of payments) {
      const taken = (await atProvider.charge(key))?.status === 'captured';
      assert.equal((await booked(orderId)).provider ?? 0n, taken ? 1250n : 0n);
      assert.equal((await statusOf(orderId)) === 'captured', taken);
    }
  });
});

describe('a batch of commands', () => {
  const commandOf = (type: 'Capture' | 'Refund', orderId: string, step = correlation('payment')) => {
    const payload = { orderId, customerId: 'ada', currency: 'EUR', amount: '12.50' };
    return consumed({ type: `commerce.${type}Payment`, payload, correlation: step });
  };
  /** Resolves with the ids of those that were put back. */
  const together = async (events: ReadonlyArray<ReturnType<typeof consumed>>, by = payment) => {
    const back = new Map<string, unknown>();
    await transaction(lab.pool, (tx) => handleBatch(by, events, tx, 1, ({ id }, error) => back.set(id, error)));
    return back;
  };

  test('of one order has its effects in order; of many, side by side', async () => {
    const orders = Array.from({ length: 20 }, () => ({ orderId: randomUUID(), step: correlation('payment') }));
    const events = orders.flatMap(({ orderId, step }, index) => {
      const captures = [commandOf('Capture', orderId, step), commandOf('Capture', orderId, step)];
      return index % 4 === 0 ? [...captures, commandOf('Refund', orderId, step)] : captures;
    });
    assert.equal((await together(events)).size, 0);
    for (const [index, { orderId, step }] of orders.entries()) {
      const taken = index % 4 === 0 ? 0n : 1250n;
      assert.equal(await statusOf(orderId), index % 4 === 0 ? 'refunded' : 'captured');
      assert.deepEqual(await booked(orderId), { provider: taken, sales: -taken });
      const { status } = (await atProvider.charge(`${step.sagaId}/payment`)) ?? {};
      assert.equal(status, index % 4 === 0 ? 'refunded' : 'captured');
    }
  });

  test('of which some do not reach the provider does the others; those come again, with what stands behind them', async () => {
    const [reached, orderId, other] = [randomUUID(), randomUUID(), randomUUID()];
    const lostStep = correlation('payment');
    const partly: PaymentProvider = {
      ...provider,
      authorise: async (key, charge) => {
        const answer = await provider.authorise(key, charge);
        if (key.startsWith(lostStep.sagaId)) throw new FerryError('PART_UNREACHABLE', 'the answer was lost');
        return answer;
      },
    };
    const events = [
      commandOf('Capture', reached),
      commandOf('Capture', orderId, lostStep),
      commandOf('Refund', orderId, lostStep),
      commandOf('Capture', other),
    ];
    const back = await together(events, paymentParticipant({ ...lab.parts, provider: partly, faultPercent: 0 }));
    assert.deepEqual([...back.keys()], [events[1]?.id]);
    assert.equal((back.get(events[1]?.id ?? '') as FerryError).code, 'PART_UNREACHABLE');
    assert.deepEqual([await statusOf(reached), await statusOf(other)], ['captured', 'captured']);
    assert.equal(await statusOf(orderId), 'pending');
    assert.deepEqual(await booked(orderId), {});
    assert.equal((await together(events.slice(1, 3))).size, 0);
    assert.equal(await statusOf(orderId), 'refunded');
    assert.equal((await atProvider.charge(`${lostStep.sagaId}/payment`))?.status, 'refunded');
  });

  test('takes no command under another order’s key, which would not come in this one’s order', async () => {
    const event = { ...commandOf('Capture', randomUUID()), aggregateId: randomUUID() };
    await assert.rejects(together([event]), { name: 'NonRetryableError' });
  });

  test('does not wait for another one in a circle', async () => {
    const orders = Array.from({ length: 30 }, () => ({ orderId: randomUUID(), step: correlation('payment') }));
    const random = createRandom(7);
    const before = await deadlocks();
    const batches = Array.from({ length: 8 }, () =>
      orders
        .filter(() => random.chance(0.5))
        .toSorted(() => (random.chance(0.5) ? 1 : -1))
        .map(({ orderId, step }) => commandOf(random.chance(0.3) ? 'Refund' : 'Capture', orderId, step)),
    );
    await Promise.all(batches.map((events) => together(events)));
    assert.equal(await deadlocks(), before);
    for (const { orderId, step } of orders) {
      const taken = (await atProvider.charge(`${step.sagaId}/payment`))?.status === 'captured';
      assert.equal((await booked(orderId)).provider ?? 0n, taken ? 1250n : 0n);
    }
  });

  async function deadlocks(): Promise<bigint> {
    await lab.pool.query('select pg_stat_force_next_flush()');
    const { rows } = await lab.pool.query<{ deadlocks: bigint }>(
      'select deadlocks from pg_stat_database where datname = current_database()',
    );
    return rows[0]?.deadlocks ?? assert.fail();
  }
});

test('the ledger refuses a booking that does not balance, and a second one', async () => {
  const { orderId, capture } = paymentOf();
  await capture();
  const insert = (booking: string, account: string) =>
    lab.pool.query(
      `insert into payment.ledger (payment_id, booking, account, currency, amount) values ($1, $2, $3, 'EUR', 1)`,
      [orderId, booking, account],
    );
  await assert.rejects(insert('refund', 'provider'), { code: '23514' });
  await assert.rejects(insert('capture', 'provider'), { code: '23505' });
  const { rows } = await lab.pool.query('select sum(amount)::text as sum from payment.ledger');
  assert.deepEqual(rows, [{ sum: '0' }]);
});

async function insistently(work: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await work();
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== 'PART_UNREACHABLE' || attempt === 50) throw error;
    }
  }
}
