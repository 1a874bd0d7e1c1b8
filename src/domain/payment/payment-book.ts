/**
 * What a batch of commands to payments works on: the payments that it names, locked and read together, changed in memory by the rules, and
 * written back together. The provider is called in between, while all of them are held.
 */
import { readClock } from '../../postgres/clock.ts';
import type { Queryable } from '../../postgres/connection.ts';
import { bookingOf, type Payment } from './payment.ts';
import {
  type Booking,
  insertBookings,
  insertPayments,
  lockPayments,
  type NewPayment,
  updatePayments,
} from './repository.ts';

export class PaymentBook {
  readonly #payments: Map<string, Payment>;
  readonly #changed = new Set<string>();
  readonly #bookings: Booking[] = [];
  readonly #openedAtMs: number;
  readonly #openedMs = performance.now();

  private constructor(payments: readonly Payment[], openedAt: string) {
    this.#payments = new Map(payments.map((payment) => [payment.id, payment]));
    this.#openedAtMs = Date.parse(openedAt);
  }

  /**
   * Holds the payments until the transaction ends, each as `pending` if there was none: of several requests for one the first counts. Whoever
   * asks for one of them again meanwhile waits.
   */
  static async open(tx: Queryable, requests: readonly NewPayment[]): Promise<PaymentBook> {
    const first = new Map<string, NewPayment>();
    for (const request of requests) if (!first.has(request.id)) first.set(request.id, request);
    const inserted = await insertPayments(tx, [...first.values()]);
    const fresh = new Set(inserted.map(({ id }) => id));
    const others = [...first.keys()].filter((id) => !fresh.has(id)); // nobody else can see a fresh one
    const locked = others.length === 0 ? [] : await lockPayments(tx, others);
    return new PaymentBook([...inserted, ...locked], (await readClock(tx)).now);
  }

  /** The payment as it is now. */
  find(id: string): Payment {
    const payment = this.#payments.get(id);
    if (payment === undefined) throw new Error(`payment ${id} vanished`);
    return payment;
  }

  /** The payment is so from now on, and what was booked with it. */
  keep(payment: Payment, booking: Booking['kind'] | null = null): Payment {
    const kept = { ...payment, changedAt: this.#now() };
    this.#payments.set(kept.id, kept);
    this.#changed.add(kept.id);
    if (booking !== null) this.#bookings.push({ kind: booking, payment: kept, rows: bookingOf(booking, kept.amount) });
    return kept;
  }

  /** Writes what has changed. */
  async save(tx: Queryable): Promise<void> {
    const changed = [...this.#changed].map((id) => this.find(id));
    if (changed.length > 0) await updatePayments(tx, changed);
    if (this.#bookings.length > 0) await insertBookings(tx, this.#bookings);
  }

  /** The database's clock, in whose form: to the millisecond. */
  #now(): string {
    const sinceMs = performance.now() - this.#openedMs;
    return new Date(this.#openedAtMs + sinceMs).toISOString().replace('Z', '000Z');
  }
}
