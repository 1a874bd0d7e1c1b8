/**
 * What a batch of commands works on: the reservations and articles that it names, locked and read together, changed in memory by the rules,
 * and written back together. Everybody wants the same articles, so the next batch waits for this one: what counts is how often it has to
 * speak to the database.
 */
import { readClock } from '../../postgres/clock.ts';
import type { Queryable } from '../../postgres/connection.ts';
import {
  insertLines,
  insertReservations,
  lockReservations,
  lockStock,
  MOVES,
  moveStockBy,
  type StockMove,
  writeReservations,
} from './repository.ts';
import type { Reservation, Stock, StockLine } from './reservation.ts';

export interface WarehouseNeeds {
  /** Orders that get a reservation if they have none, in which they hold nothing yet. */
  readonly orders: readonly string[];
  /** Orders that are only looked up. */
  readonly knownOrders: readonly string[];
  /** Articles, besides those of reservations that there are. */
  readonly skus: readonly string[];
  /** How long stock is set aside. */
  readonly ttlMs: number;
}

export class Warehouse {
  /** The database's clock under the locks, and when what is set aside now expires. */
  readonly now: string;
  readonly expiresAt: string;
  readonly #undecided: Set<string>;
  readonly #reservations: Map<string, Reservation>;
  readonly #stock: Map<string, Stock>;
  readonly #changed = new Set<string>();
  readonly #lines: Array<StockLine & { readonly orderId: string }> = [];
  readonly #moves = new Map<string, { reserved: number; shipped: number }>();

  private constructor(
    clock: { readonly now: string; readonly later: string },
    undecided: ReadonlySet<string>,
    reservations: readonly Reservation[],
    stock: readonly Stock[],
  ) {
    this.now = clock.now;
    this.expiresAt = clock.later;
    this.#undecided = new Set(undecided);
    this.#reservations = new Map(reservations.map((reservation) => [reservation.orderId, reservation]));
    this.#stock = new Map(stock.map((article) => [article.sku, article]));
  }

  /** Holds everything until the transaction ends: reservations before articles, each in the order of their keys, as everybody does. */
  static async open(tx: Queryable, { orders, knownOrders, skus, ttlMs }: WarehouseNeeds): Promise<Warehouse> {
    const fresh = await insertReservations(tx, [...new Set(orders)]);
    const reservations = await lockReservations(tx, [...new Set([...orders, ...knownOrders])]);
    const reserved = reservations.flatMap(({ lines }) => lines.map(({ sku }) => sku));
    const stock = await lockStock(tx, [...new Set([...skus, ...reserved])]);
    return new Warehouse(await readClock(tx, ttlMs), fresh, reservations, stock);
  }

  /** True once for an order that had no reservation; from then on it has one. */
  begin(orderId: string): boolean {
    return this.#undecided.delete(orderId);
  }

  /** Null if there is none. */
  find(orderId: string): Reservation | null {
    return this.#reservations.get(orderId) ?? null;
  }

  /** Of articles that are not there: nothing. */
  stockOf(lines: readonly StockLine[]): Stock[] {
    return lines.flatMap(({ sku }) => this.#stock.get(sku) ?? []);
  }

  /** What an order wants; once an order. */
  addLines(orderId: string, lines: readonly StockLine[]): void {
    for (const line of lines) this.#lines.push({ orderId, ...line });
  }

  /** The pieces of the lines count otherwise from now on. The articles must be there. */
  move(lines: readonly StockLine[], move: StockMove): void {
    const { reserved, shipped } = MOVES[move];
    for (const { sku, quantity } of lines) {
      const article = this.#stock.get(sku);
      if (article === undefined) throw new Error(`article ${sku} vanished`);
      this.#stock.set(sku, { sku, available: article.available - BigInt((reserved + shipped) * quantity) });
      const sum = this.#moves.get(sku) ?? { reserved: 0, shipped: 0 };
      this.#moves.set(sku, { reserved: sum.reserved + reserved * quantity, shipped: sum.shipped + shipped * quantity });
    }
  }

  /** The reservation as it is from now on. */
  keep(reservation: Omit<Reservation, 'changedAt'>): Reservation {
    const kept = { ...reservation, changedAt: this.now };
    this.#reservations.set(kept.orderId, kept);
    this.#changed.add(kept.orderId);
    return kept;
  }

  /** Writes what has changed. */
  async save(tx: Queryable): Promise<void> {
    const changed = [...this.#changed].flatMap((orderId) => this.#reservations.get(orderId) ?? []);
    if (changed.length > 0) await writeReservations(tx, changed);
    if (this.#lines.length > 0) await insertLines(tx, this.#lines);
    const moves = [...this.#moves].map(([sku, pieces]) => ({ sku, ...pieces }));
    if (moves.length > 0) await moveStockBy(tx, moves);
  }
}
