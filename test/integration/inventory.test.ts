/** Inventory on a real Postgres: nothing is sold twice, whatever comes at once, twice, late or in the wrong order. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { releaseExpired } from '../../src/domain/inventory/commands.ts';
import { inventoryParticipant } from '../../src/domain/inventory/participant.ts';
import { receiveStock } from '../../src/domain/inventory/repository.ts';
import type { StockLine } from '../../src/domain/inventory/reservation.ts';
import { ReservationSweeper } from '../../src/domain/inventory/sweeper.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { consumed, correlation, handleBatch, participantLab } from '../support/participant-lab.ts';
import { createRandom } from '../support/random.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const lab = await participantLab(await testStack());
const inventory = inventoryParticipant({ ...lab.parts, reservationTtlMs: 3_600_000, faultPercent: 0 });
/** Its reservations have expired when they are made. */
const impatient = inventoryParticipant({ ...lab.parts, reservationTtlMs: 0, faultPercent: 0 });
const refusing = inventoryParticipant({ ...lab.parts, reservationTtlMs: 3_600_000, faultPercent: 100 });

/** A fresh article of which there are `pieces`. */
async function article(pieces: number): Promise<string> {
  const sku = `sku-${randomUUID()}`;
  await receiveStock(lab.pool, [{ sku, quantity: pieces }]);
  return sku;
}

function orderFor(lines: readonly StockLine[], orderId: string = randomUUID()) {
  const step = correlation('inventory');
  const send = (type: 'commerce.ReleaseStock' | 'commerce.IssueStock') =>
    lab.carryOut(inventory, { type, payload: { orderId }, correlation: step }).then(said);
  return {
    orderId,
    reserve: (by = inventory) =>
      lab.carryOut(by, { type: 'commerce.ReserveStock', payload: { orderId, lines }, correlation: step }).then(said),
    release: () => send('commerce.ReleaseStock'),
    issue: () => send('commerce.IssueStock'),
  };
}

/** Type of the one answer, its reason or pieces, and whether it repeats another. */
function said(answers: Awaited<ReturnType<typeof lab.carryOut>>): unknown[] {
  assert.equal(answers.length, 1);
  const { type, payload } = answers[0] ?? assert.fail();
  return [type.replace('commerce.', ''), payload.reason ?? payload.pieces ?? null, payload.duplicate === true];
}

/** received, shipped, reserved */
async function stockOf(sku: string): Promise<number[]> {
  const { rows } = await lab.pool.query<{ received: bigint; shipped: bigint; reserved: bigint }>(
    'select received, shipped, reserved from inventory.stock where sku = $1',
    [sku],
  );
  return [rows[0]?.received, rows[0]?.shipped, rows[0]?.reserved].map(Number);
}

describe('a reservation', () => {
  test('is made, issued, and told again when it is asked for again', async () => {
    const sku = await article(10);
    const { reserve, issue } = orderFor([{ sku, quantity: 3 }]);
    assert.deepEqual(await reserve(), ['StockReserved', null, false]);
    assert.deepEqual(await reserve(), ['StockReserved', null, true]);
    assert.deepEqual(await stockOf(sku), [10, 0, 3]);
    assert.deepEqual(await issue(), ['StockIssued', 3, false]);
    assert.deepEqual(await issue(), ['StockIssued', 3, true]);
    assert.deepEqual(await stockOf(sku), [10, 3, 0]);
  });

  test('is all or nothing, and a refusal stays one', async () => {
    const [scarce, plenty] = [await article(1), await article(9)];
    const { reserve, release } = orderFor([
      { sku: plenty, quantity: 2 },
      { sku: scarce, quantity: 2 },
    ]);
    assert.deepEqual(await reserve(), ['StockRefused', 'OUT_OF_STOCK', false]);
    await receiveStock(lab.pool, [{ sku: scarce, quantity: 5 }]);
    assert.deepEqual(await reserve(), ['StockRefused', 'OUT_OF_STOCK', true]);
    assert.deepEqual(await release(), ['StockReleased', 0, false]);
    assert.deepEqual(await stockOf(plenty), [9, 0, 0]);
    const unknown = orderFor([{ sku: 'no such thing', quantity: 1 }]);
    assert.deepEqual(await unknown.reserve(), ['StockRefused', 'UNKNOWN_ARTICLE', false]);
  });

  test('is released once', async () => {
    const sku = await article(10);
    const { reserve, release, issue } = orderFor([{ sku, quantity: 3 }]);
    await reserve();
    assert.deepEqual(await release(), ['StockReleased', 3, false]);
    assert.deepEqual(await release(), ['StockReleased', 0, true]);
    assert.deepEqual(await reserve(), ['StockRefused', 'CANCELLED', true]);
    assert.deepEqual(await issue(), ['StockRefused', 'NOT_RESERVED', false]);
    assert.deepEqual(await stockOf(sku), [10, 0, 0]);
  });

  test('that is released before it is made is never made', async () => {
    const sku = await article(10);
    const { reserve, release } = orderFor([{ sku, quantity: 3 }]);
    assert.deepEqual(await release(), ['StockReleased', 0, false]);
    assert.deepEqual(await reserve(), ['StockRefused', 'CANCELLED', true]);
    assert.deepEqual(await stockOf(sku), [10, 0, 0]);
  });

  test('whose goods have left cannot be released', async () => {
    const sku = await article(10);
    const { reserve, issue, release } = orderFor([{ sku, quantity: 3 }]);
    await reserve();
    await issue();
    assert.deepEqual(await release(), ['StockRefused', 'ALREADY_ISSUED', false]);
    assert.deepEqual(await stockOf(sku), [10, 3, 0]);
  });
});

describe('at the same time', () => {
  test('50 orders of one piece each get the 10 pieces that there are', async () => {
    const sku = await article(10);
    const answers = await Promise.all(Array.from({ length: 50 }, () => orderFor([{ sku, quantity: 1 }]).reserve()));
    const reserved = answers.filter(([type]) => type === 'StockReserved').length;
    const refused = answers.filter(([, reason]) => reason === 'OUT_OF_STOCK').length;
    assert.deepEqual([reserved, refused], [10, 40]);
    assert.deepEqual(await stockOf(sku), [10, 0, 10]);
  });

  test('orders of the same articles in any order do not wait for each other in a circle', async () => {
    const skus = await Promise.all(Array.from({ length: 4 }, () => article(1_000)));
    const random = createRandom(7);
    const before = await deadlocks();
    const orders = Array.from({ length: 40 }, () => {
      const shuffled = skus.map((sku) => ({ sku, at: random.next() })).sort((a, b) => a.at - b.at);
      return orderFor(shuffled.map(({ sku }) => ({ sku, quantity: 2 })));
    });
    await Promise.all(
      orders.map(async ({ reserve, issue, release }, index) => {
        await reserve();
        await (index % 2 === 0 ? issue() : release());
      }),
    );
    for (const sku of skus) assert.deepEqual(await stockOf(sku), [1_000, 40, 0]);
    assert.equal(await deadlocks(), before);
  });

  test('batches of many orders do not wait for each other in a circle, nor for the sweep', async () => {
    const skus = await Promise.all(Array.from({ length: 6 }, () => article(10_000)));
    const random = createRandom(11);
    const before = await deadlocks();
    const batch = (by: typeof inventory) => {
      const orders = Array.from({ length: 30 }, () => ({ orderId: randomUUID(), sku: random.pick(skus) }));
      const events = orders.flatMap(({ orderId, sku }) => {
        const lines = [...new Set([sku, random.pick(skus)])].map((article) => ({ sku: article, quantity: 1 }));
        const reserve = consumed({ type: 'commerce.ReserveStock', payload: { orderId, lines } });
        return random.chance(0.3)
          ? [reserve, consumed({ type: 'commerce.ReleaseStock', payload: { orderId } })]
          : [reserve];
      });
      return transaction(lab.pool, (tx) => handleBatch(by, events, tx));
    };
    const batches = Array.from({ length: 12 }, (_, index) => batch(index % 2 === 0 ? inventory : impatient));
    await Promise.all([...batches, sweep(), sweep()]);
    await sweep();
    assert.equal(await deadlocks(), before);
  });

  test('the same order ten times reserves once, and a release among them wins', async () => {
    const sku = await article(100);
    const { reserve, release } = orderFor([{ sku, quantity: 3 }]);
    const answers = await Promise.all(Array.from({ length: 10 }, () => reserve()));
    assert.equal(answers.filter(([, , duplicate]) => duplicate === false).length, 1);
    assert.deepEqual(await stockOf(sku), [100, 0, 3]);
    await Promise.all([reserve(), release(), reserve()]);
    assert.deepEqual(await stockOf(sku), [100, 0, 0]);
  });
});

describe('a reservation whose time is over', () => {
  test('is free again after a sweep, and taken up again while there is enough', async () => {
    const sku = await article(3);
    const [late, quick, later] = [1, 2, 3].map(() => orderFor([{ sku, quantity: 2 }]));
    if (late === undefined || quick === undefined || later === undefined) throw new Error('three orders');
    await late.reserve(impatient);
    assert.deepEqual(await quick.reserve(), ['StockRefused', 'OUT_OF_STOCK', false]);
    await sweep();
    assert.deepEqual(await stockOf(sku), [3, 0, 0]);
    assert.deepEqual(await late.issue(), ['StockIssued', 2, false]);
    assert.deepEqual(await stockOf(sku), [3, 2, 0]);
    await later.reserve();
    await sweep();
    assert.deepEqual(await stockOf(sku), [3, 2, 0]);
  });

  test('is lost if others were faster; the refusal is not for ever', async () => {
    const sku = await article(2);
    const [late, quick] = [orderFor([{ sku, quantity: 2 }]), orderFor([{ sku, quantity: 1 }])];
    await late.reserve(impatient);
    await sweep();
    await quick.reserve();
    assert.deepEqual(await late.issue(), ['StockRefused', 'OUT_OF_STOCK', false]);
    await receiveStock(lab.pool, [{ sku, quantity: 1 }]);
    assert.deepEqual(await late.issue(), ['StockIssued', 2, false]);
    assert.deepEqual(await stockOf(sku), [3, 2, 1]);
  });

  test('is told again as it was when the command is repeated, though others were faster', async () => {
    const sku = await article(2);
    const [late, quick] = [orderFor([{ sku, quantity: 2 }]), orderFor([{ sku, quantity: 1 }])];
    await late.reserve(impatient);
    await sweep();
    await quick.reserve();
    assert.deepEqual(await late.reserve(), ['StockReserved', null, true]);
    assert.deepEqual(await stockOf(sku), [2, 0, 1]);
    assert.deepEqual(await late.issue(), ['StockRefused', 'OUT_OF_STOCK', false]);
    await receiveStock(lab.pool, [{ sku, quantity: 1 }]);
    assert.deepEqual(await late.reserve(), ['StockReserved', null, false]);
    assert.deepEqual(await stockOf(sku), [3, 0, 3]);
    assert.deepEqual(await late.issue(), ['StockIssued', 2, false]);
    assert.deepEqual(await stockOf(sku), [3, 2, 1]);
  });

  test('is not refused on purpose when its command is repeated', async () => {
    const sku = await article(2);
    const { reserve } = orderFor([{ sku, quantity: 2 }]);
    await reserve(impatient);
    await sweep();
    assert.deepEqual(await reserve(refusing), ['StockReserved', null, false]);
  });

  test('is swept in batches by several processes at once, each once', async () => {
    const sku = await article(500);
    for (let i = 0; i < 25; i++) await orderFor([{ sku, quantity: 2 }]).reserve(impatient);
    assert.deepEqual(await stockOf(sku), [500, 0, 50]);
    const sweepers = [1, 2, 3].map(
      () => new ReservationSweeper({ pool: lab.pool, logger: quiet.logger, intervalMs: 20, batch: 4 }),
    );
    for (const sweeper of sweepers) sweeper.start();
    await waitUntil('every reservation to be free', async () => (await stockOf(sku))[2] === 0);
    for (const sweeper of sweepers) await sweeper.stop();
    assert.deepEqual(await stockOf(sku), [500, 0, 0]);
  });
});

test('what the stock says is what the reservations say', async () => {
  const { rows } = await lab.pool.query(
    `select s.sku from inventory.stock s
     left join (select sku, sum(quantity) filter (where status = 'reserved') as reserved,
                       sum(quantity) filter (where status = 'issued') as issued
                from inventory.reservation_lines join inventory.reservations using (order_id) group by sku) r using (sku)
     where s.reserved <> coalesce(r.reserved, 0) or s.shipped <> coalesce(r.issued, 0)`,
  );
  assert.deepEqual(rows, []);
});

async function sweep(): Promise<void> {
  while ((await releaseExpired(lab.pool, 3)) > 0);
}

async function deadlocks(): Promise<bigint | undefined> {
  await lab.pool.query('select pg_stat_force_next_flush()');
  const { rows } = await lab.pool.query<{ deadlocks: bigint }>(
    'select deadlocks from pg_stat_database where datname = current_database()',
  );
  return rows[0]?.deadlocks;
}
