/**
 * What a batch of commands to orders works on: the orders and their customers, locked and read together, changed in memory by the rules, and
 * written back together with the events and audit rows that tell of it. A customer's orders are decided one after another, so what counts is
 * how often a batch has to speak to the database while it holds them.
 */
import { context } from '@opentelemetry/api';
import type { EventId } from '../../kernel/event-id.ts';
import type { BatchableEvent, EventWriter, TracedEvent } from '../../outbox/event-writer.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { traceparentOf } from '../../telemetry/traces.ts';
import { type Actor, recordAudits } from '../audit.ts';
import type { Customer } from './customer.ts';
import type { Order } from './order.ts';
import { type LockedCustomer, lockCustomers, lockOrders, updateCustomers, updateOrders } from './repository.ts';

export interface OrderChange {
  readonly order: Order;
  /** The event that tells of the change. */
  readonly eventId: EventId;
}

/** An order's next state, and what tells of it. */
export interface OrderStep {
  /** Its version is that of its event, which the database counts. */
  readonly order: Order;
  readonly event: BatchableEvent;
  /** Whose credit changed with it, and the event of that. */
  readonly credit?: { readonly customer: Customer; readonly event: BatchableEvent };
  readonly actor: Actor;
  /** As it stands in the audit. */
  readonly action: string;
}

export class OrderBook {
  readonly #orders: Map<string, Order>;
  readonly #customers: Map<string, LockedCustomer>;
  readonly #steps: Array<{ readonly step: OrderStep; readonly eventAt: number }> = [];
  readonly #events: TracedEvent[] = [];

  private constructor(orders: readonly Order[], customers: readonly LockedCustomer[]) {
    this.#orders = new Map(orders.map((order) => [order.id, order]));
    this.#customers = new Map(customers.map((locked) => [locked.customer.id, locked]));
  }

  /** Holds orders before customers, each in the order of their keys, as every command does, until the transaction ends. */
  static async open(tx: Queryable, orderIds: readonly string[]): Promise<OrderBook> {
    const orders = await lockOrders(tx, [...new Set(orderIds)]);
    const customers = await lockCustomers(tx, [...new Set(orders.map(({ customerId }) => customerId))]);
    return new OrderBook(orders, customers);
  }

  /** Null if there is no such order. */
  find(orderId: string): Order | null {
    return this.#orders.get(orderId) ?? null;
  }

  /** The order's customer, and the database's clock under the locks. */
  customerOf({ id, customerId }: Order): LockedCustomer {
    const locked = this.#customers.get(customerId);
    if (locked === undefined) throw new Error(`order ${id} has no customer`);
    return locked;
  }

  /** The order is in its next state from now on. */
  take(step: OrderStep): void {
    const { order, event, credit } = step;
    this.#orders.set(order.id, order);
    this.#steps.push({ step, eventAt: this.#events.length });
    this.tell(event);
    if (credit === undefined) return;
    const { customer } = credit;
    this.#customers.set(customer.id, { customer, now: this.customerOf(order).now });
    this.tell(credit.event);
  }

  /** An event by itself, behind those before it; it continues the active trace. */
  tell(event: BatchableEvent): void {
    this.#events.push({ ...event, traceparent: traceparentOf(context.active()) });
  }

  /** Writes all of it; resolves with the last change of each order. Rejects as EventWriter.write does, with nothing written. */
  async save(tx: Queryable, events: EventWriter): Promise<ReadonlyMap<string, OrderChange>> {
    const written = await events.writeMany(tx, this.#events, 'application');
    const changes = this.#steps.map(({ step, eventAt }) => {
      const event = written[eventAt];
      if (event === undefined) throw new Error(`a change of order ${step.order.id} has no event`);
      return { step, eventId: event.id, version: event.aggregateVersion ?? step.order.version };
    });
    const last = new Map(changes.map((change) => [change.step.order.id, change]));
    const orders = [...last.values()].map(({ step, version }) => ({ ...step.order, version }));
    const customers = new Set(changes.flatMap(({ step }) => step.credit?.customer.id ?? []));
    if (orders.length > 0) await updateOrders(tx, orders);
    if (customers.size > 0) {
      await updateCustomers(
        tx,
        [...customers].flatMap((id) => this.#customers.get(id)?.customer ?? []),
      );
    }
    await recordAudits(
      tx,
      changes.map(({ step: { actor, action, order }, eventId }) => ({
        actor,
        ...{ action, subject: `order/${order.id}`, eventId },
      })),
    );
    return new Map(
      [...last].map(([id, { step, eventId, version }]) => [id, { order: { ...step.order, version }, eventId }]),
    );
  }
}
