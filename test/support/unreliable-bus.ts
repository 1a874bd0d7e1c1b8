/**
 * Kafka as consumers must fear it, without Kafka: carries the outbox's rows to whoever takes their type, in order per key and topic, but some
 * twice, some after a transaction that was lost, and some are dead letters, which come at the very end if at all. There is no inbox: what is
 * delivered twice is handled twice.
 */
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { EventId } from '../../src/kernel/event-id.ts';
import type { Pool, Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import type { Random } from './random.ts';

export interface BusFaults {
  /** Handled twice, by a transaction each. */
  readonly twice: number;
  /** The transaction is rolled back at its end, and the event delivered again. */
  readonly rolledBack: number;
  /** Put aside as a dead letter. */
  readonly deadLettered: number;
  /** The same for what has failed or was rolled back before: its handler may have spoken to the world outside. */
  readonly deadLetteredAfterFailure: number;
}

export interface BusOptions {
  readonly pool: Pool;
  readonly random: Random;
  /** Gives the event its effect; false if nobody wants its type. */
  readonly handle: (event: ConsumedEvent, tx: Queryable, attempt: number) => Promise<boolean>;
  /** Which events may become dead letters: those whose sender repeats them. */
  readonly mayBeDeadLettered: (event: ConsumedEvent) => boolean;
  /** Events that become dead letters in any case, behind a transaction that did everything and was lost at its end. */
  readonly isDoomed: (event: ConsumedEvent) => boolean;
}

interface Row {
  id: EventId;
  aggregatetype: string;
  aggregateid: string;
  type: string;
  payload: unknown;
  headers: Record<string, string>;
}

class LostTransaction extends Error {}

export class UnreliableBus {
  readonly #options: BusOptions;
  readonly #seen = new Set<string>();
  /** By aggregatetype and key, in the order in which they were written. */
  readonly #queues = new Map<string, ConsumedEvent[]>();
  readonly #failed = new Set<string>();
  #deadLetters: ConsumedEvent[] = [];
  #replaying = false;

  constructor(options: BusOptions) {
    this.#options = options;
  }

  /** Delivers one event of each of at most `keys` keys, chosen at random, at the same time; resolves with how many have something waiting then. */
  async turn(keys: number, faults: BusFaults): Promise<number> {
    const { random } = this.#options;
    const waiting = [...this.#queues].map(([key, queue]) => ({ key, queue, at: random.next() }));
    const chosen = waiting.sort((a, b) => a.at - b.at).slice(0, keys);
    await Promise.all(
      chosen.map(async ({ key, queue }) => {
        const [event] = queue;
        if (event === undefined || !(await this.#deliver(event, faults))) return;
        queue.shift();
        if (queue.length === 0) this.#queues.delete(key);
      }),
    );
    await this.#read();
    return this.#queues.size;
  }

  /** Dead letters are delivered after all, in any order, behind everything that waits. Returns how many they are. */
  replayDeadLetters(): number {
    const letters = this.#deadLetters;
    this.#deadLetters = [];
    this.#replaying = true;
    for (const letter of letters) this.#queues.set(`replayed ${letter.id}`, [letter]);
    return letters.length;
  }

  /** Only rows of committed transactions are seen, and nothing that was passed over is looked for later: reads come between the turns. */
  async #read(): Promise<void> {
    const { rows } = await this.#options.pool.query<Row & Record<string, unknown>>(
      'select id, aggregatetype, aggregateid, type, payload, headers from ferry.outbox where not id = any ($1::uuid[]) order by seq',
      [[...this.#seen]],
    );
    for (const row of rows) {
      this.#seen.add(row.id);
      const key = `${row.aggregatetype} ${row.aggregateid}`;
      this.#queues.set(key, [...(this.#queues.get(key) ?? []), eventOf(row)]);
    }
  }

  /** Whether it is dealt with. */
  async #deliver(event: ConsumedEvent, faults: BusFaults): Promise<boolean> {
    const { twice, rolledBack, deadLettered, deadLetteredAfterFailure } = faults;
    const { random, mayBeDeadLettered, isDoomed } = this.#options;
    if (!this.#replaying && isDoomed(event)) {
      await this.#handle(event, true);
      this.#deadLetters.push(event);
      return true;
    }
    const rate = this.#failed.has(event.id) ? deadLetteredAfterFailure : deadLettered;
    if (random.chance(rate) && mayBeDeadLettered(event)) {
      this.#deadLetters.push(event);
      return true;
    }
    const times = random.chance(twice) ? 2 : 1;
    for (let time = 0; time < times; time++) {
      if (!(await this.#handle(event, random.chance(rolledBack)))) return false;
    }
    return true;
  }

  /** False if nothing was done: the transaction was lost, or the handler wants another try. */
  async #handle(event: ConsumedEvent, rollBack: boolean): Promise<boolean> {
    const { pool, handle } = this.#options;
    try {
      await transaction(pool, async (tx) => {
        await handle(event, tx, 1);
        if (rollBack) throw new LostTransaction();
      });
      return true;
    } catch (error) {
      const isOver = error instanceof LostTransaction || (error as { code?: string }).code === 'PART_UNREACHABLE';
      if (!isOver) throw error;
      this.#failed.add(event.id);
      return false;
    }
  }
}

function eventOf(row: Row): ConsumedEvent {
  return {
    id: row.id,
    type: row.type,
    aggregateType: row.aggregatetype,
    aggregateId: row.aggregateid,
    aggregateVersion: null,
    occurredAt: null,
    recordedAt: new Date().toISOString(),
    traceparent: null,
    headers: row.headers,
    value: row.payload,
    source: { topic: row.aggregatetype, partition: 0, offset: 0n },
  };
}
