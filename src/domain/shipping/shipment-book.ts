/**
 * What a batch of commands to shipments works on: the shipments of its orders, locked and read together, changed in memory by the rules, and
 * written back together.
 */
import { readClock } from '../../postgres/clock.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { insertCancelled, lockShipments, updateShipments } from './repository.ts';
import type { Shipment } from './shipment.ts';

/** What is sent, and to whom; known since the shipment was arranged. */
export interface Parcels {
  readonly customerId: string;
  readonly pieces: number;
}

export class ShipmentBook {
  readonly #shipments: Map<string, Shipment>;
  readonly #undecided: Set<string>;
  readonly #changed = new Map<string, Parcels | null>();
  readonly #now: string;

  private constructor(fresh: readonly Shipment[], known: readonly Shipment[], now: string) {
    this.#shipments = new Map([...fresh, ...known].map((shipment) => [shipment.orderId, shipment]));
    this.#undecided = new Set(fresh.map(({ orderId }) => orderId));
    this.#now = now;
  }

  /** Holds the orders' shipments until the transaction ends; an order that has none gets one that is cancelled. */
  static async open(tx: Queryable, orderIds: readonly string[]): Promise<ShipmentBook> {
    const orders = [...new Set(orderIds)];
    const fresh = await insertCancelled(tx, orders);
    const made = new Set(fresh.map(({ orderId }) => orderId));
    const others = orders.filter((orderId) => !made.has(orderId)); // nobody else can see one that was just made
    const known = others.length === 0 ? [] : await lockShipments(tx, others);
    return new ShipmentBook(fresh, known, (await readClock(tx)).now);
  }

  /** True once for an order that had no shipment. */
  begin(orderId: string): boolean {
    return this.#undecided.delete(orderId);
  }

  find(orderId: string): Shipment {
    const shipment = this.#shipments.get(orderId);
    if (shipment === undefined) throw new Error(`the shipment of ${orderId} vanished`);
    return shipment;
  }

  /** The shipment is so from now on. */
  keep(shipment: Shipment, parcels: Parcels | null = null): Shipment {
    const handedOverAt = shipment.status === 'handed-over' ? this.#now : null;
    const kept = { ...shipment, handedOverAt, changedAt: this.#now };
    this.#shipments.set(kept.orderId, kept);
    this.#changed.set(kept.orderId, parcels ?? this.#changed.get(kept.orderId) ?? null);
    return kept;
  }

  /** Writes what has changed. */
  async save(tx: Queryable): Promise<void> {
    const changed = [...this.#changed].map(([orderId, parcels]) => ({ ...this.find(orderId), parcels }));
    if (changed.length > 0) await updateShipments(tx, changed);
  }
}
