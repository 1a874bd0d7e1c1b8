/**
 * Fulfilments whose participants answer what a test says: replies are events of the outbox, as real participants write them, and the engine
 * takes them in the same transaction, as its consumer would.
 */
import { randomUUID } from 'node:crypto';
import { type FulfilmentData, fulfilment } from '../../src/domain/commerce/fulfilment.ts';
import type { EventPayloads } from '../../src/events/generated/payloads.ts';
import { correlationHeaders, type SagaCorrelation } from '../../src/events/saga-headers.ts';
import type { EventId } from '../../src/kernel/event-id.ts';
import { newEventId } from '../../src/outbox/emit.ts';
import { emitMany } from '../../src/outbox/emit-many.ts';
import type { Pool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { SagaEngine } from '../../src/saga/engine.ts';
import { quiet } from './relay-fixtures.ts';

const at = '2026-11-22T10:00:00.000000Z';
const money = { currency: 'EUR', amount: '20.00' };

/** Of each reply, a payload that fits its schema. */
const PAYLOADS = {
  'commerce.PaymentCaptured': (orderId) => ({ orderId, paymentId: orderId, ...money, capturedAt: at }),
  'commerce.PaymentFailed': (orderId) => ({ orderId, reason: 'the card is not accepted', failedAt: at }),
  'commerce.PaymentRefunded': (orderId) => ({ orderId, ...money, refundedAt: at }),
  'commerce.StockReserved': (orderId) => ({ orderId, reservedUntil: at, reservedAt: at }),
  'commerce.StockRefused': (orderId) => ({ orderId, reason: 'the shelf is empty', refusedAt: at }),
  'commerce.StockReleased': (orderId) => ({ orderId, pieces: 2, releasedAt: at }),
  'commerce.StockIssued': (orderId) => ({ orderId, pieces: 2, issuedAt: at }),
  'commerce.ShipmentArranged': (orderId) => ({ orderId, shipmentId: orderId, arrangedAt: at }),
  'commerce.ShipmentNotCancellable': (orderId) => ({ orderId, handedOverAt: at }),
  'commerce.ShipmentHandedOver': (orderId) => ({ orderId, shipmentId: orderId, handedOverAt: at }),
  'commerce.HandOverFailed': (orderId) => ({ orderId, reason: 'no carrier came', failedAt: at }),
  'commerce.OrderConfirmed': (orderId) => ({ orderId, customerId: 'ada', confirmedAt: at }),
  'commerce.OrderCompleted': (orderId) => ({
    orderId,
    customerId: 'ada',
    currency: 'EUR',
    total: '20.00',
    completedAt: at,
  }),
  'commerce.OrderCancelled': (orderId) => ({
    orderId,
    customerId: 'ada',
    currency: 'EUR',
    total: '20.00',
    cancelledAt: at,
  }),
} as const satisfies { readonly [T in keyof EventPayloads]?: (orderId: string) => EventPayloads[T] };

export type ScriptedReply = keyof typeof PAYLOADS;

/** Up to and over the pivot: what comes then can only go forward. */
export const OVER_THE_PIVOT: readonly ScriptedReply[] = [
  'commerce.PaymentCaptured',
  'commerce.StockReserved',
  'commerce.ShipmentArranged',
  'commerce.OrderConfirmed',
  'commerce.ShipmentHandedOver',
];

const AGGREGATES: ReadonlyArray<readonly [prefix: string, aggregateType: string]> = [
  ['commerce.Payment', 'payment'],
  ['commerce.Stock', 'inventory'],
  ['commerce.Order', 'order'],
];

export class FulfilmentScript {
  readonly engine = new SagaEngine({ ...quiet, sagas: [fulfilment] });
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  register(): Promise<void> {
    return this.engine.register(this.#pool);
  }

  /** Starts an order's saga and answers its commands, one after the other; resolves with the saga's id. */
  async start(orderId: string = randomUUID(), answers: readonly ScriptedReply[] = []): Promise<string> {
    const line = { sku: 'TEA-1', quantity: 2 };
    const data: FulfilmentData = { orderId, customerId: 'ada', currency: 'EUR', total: '20.00', lines: [line] };
    const traceparent = `00-${orderId.replaceAll('-', '')}-b7ad6b7169203331-01`;
    const { id } = await transaction(this.#pool, (tx) =>
      this.engine.start(tx, fulfilment, { key: orderId, data, traceparent }),
    );
    await this.answer(id, ...answers);
    return id;
  }

  /** Answers the saga's last command, then the one that follows from that, and so on. */
  async answer(sagaId: string, ...answers: readonly ScriptedReply[]): Promise<void> {
    for (const type of answers) await this.#answerOne(sagaId, type);
  }

  /** The time of its timer has come, so many times. */
  async expire(sagaId: string, times = 1): Promise<void> {
    for (let run = 0; run < times; run++) {
      await this.#pool.query('update ferry.saga set due_at = now() where id = $1 and due_at is not null', [sagaId]);
      await this.engine.runDueTimers(this.#pool, 1_000);
    }
  }

  async #answerOne(sagaId: string, type: ScriptedReply): Promise<void> {
    const { key, ...correlation } = await this.#lastCommand(sagaId);
    const value = PAYLOADS[type](key);
    const headers = correlationHeaders(correlation);
    const id: EventId = newEventId();
    const aggregateType = AGGREGATES.find(([prefix]) => type.startsWith(prefix))?.[1] ?? 'shipment';
    await transaction(this.#pool, async (tx) => {
      const event = { id, aggregateType, aggregateId: key, type, payload: value, headers, traceparent: null };
      await emitMany(tx, [event]);
      await this.engine.handleReply(tx, { id, type, headers, value });
    });
  }

  async #lastCommand(sagaId: string): Promise<SagaCorrelation & { key: string }> {
    const { rows } = await this.#pool.query<SagaCorrelation & { key: string }>(
      `select saga_id as "sagaId", saga.key, history.step, purpose, attempt
       from ferry.saga_history history join ferry.saga on saga.id = saga_id
       where saga_id = $1 and cause = 'command' order by history.id desc limit 1`,
      [sagaId],
    );
    const [command] = rows;
    if (command === undefined) throw new Error(`saga ${sagaId} has sent no command`);
    return command;
  }
}
