/**
 * A partition of Kafka in memory with the transactions of several producers interleaved, fetched as a broker serves it: from the batch
 * that holds the wanted offset on, with the transactions in reach that were aborted.
 */
import type { FetchedMessage, FetchedPartition } from '../../src/kafka/protocol.ts';

interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
  readonly lastOffset: bigint;
}

export class TransactionLog {
  readonly #batches: FetchedMessage[][] = [];
  readonly #open = new Map<string, bigint[]>();
  readonly #aborted: AbortedTransaction[] = [];
  readonly #committed: bigint[] = [];
  #end = 0n;

  get end(): bigint {
    return this.#end;
  }

  /** Offsets of the records in committed transactions, or in none, so far. */
  get committed(): readonly bigint[] {
    return [...this.#committed].sort((a, b) => (a < b ? -1 : 1));
  }

  get openProducers(): readonly string[] {
    return [...this.#open.keys()];
  }

  /** Appends one batch of the producer's transaction, which begins with it if none is open. */
  write(producerId: string, records = 1): this {
    const offsets = this.#append(producerId, records, { isControlRecord: false, inTransaction: true });
    this.#open.set(producerId, [...(this.#open.get(producerId) ?? []), ...offsets]);
    return this;
  }

  /** Appends a batch of no transaction. */
  writePlain(records = 1): this {
    this.#committed.push(...this.#append('-1', records, { isControlRecord: false, inTransaction: false }));
    return this;
  }

  commit(producerId: string): this {
    this.#committed.push(...this.#finish(producerId).offsets);
    return this;
  }

  abort(producerId: string): this {
    const { offsets, marker } = this.#finish(producerId);
    this.#aborted.push({ producerId, firstOffset: String(offsets[0]), lastOffset: marker });
    return this;
  }

  /** What a broker answers under read_committed: `maxBatches` from the one that holds `from`, up to the first open transaction. */
  fetch(from: bigint, maxBatches = Number.POSITIVE_INFINITY): FetchedPartition {
    const stable = [...this.#open.values()].map(([first]) => first ?? this.#end).reduce(lower, this.#end);
    const messages = this.#batches
      .filter((batch) => lastOffset(batch) >= from && firstOffset(batch) < stable)
      .slice(0, maxBatches)
      .flat();
    const end = messages.length === 0 ? from : BigInt(messages.at(-1)?.offset ?? 0);
    return {
      partition: 0,
      highWatermark: String(this.#end),
      lastStableOffset: String(stable),
      abortedTransactions: this.#aborted.filter((one) => one.lastOffset >= from && BigInt(one.firstOffset) <= end),
      messages,
    };
  }

  #finish(producerId: string): { offsets: bigint[]; marker: bigint } {
    const offsets = this.#open.get(producerId) ?? [];
    this.#open.delete(producerId);
    const [marker = 0n] = this.#append(producerId, 1, { isControlRecord: true, inTransaction: true });
    return { offsets, marker };
  }

  #append(producerId: string, records: number, kind: { isControlRecord: boolean; inTransaction: boolean }): bigint[] {
    const first = this.#end;
    const { isControlRecord, inTransaction } = kind;
    const batchContext = { producerId, inTransaction, firstOffset: String(first), lastOffsetDelta: records - 1 };
    const offsets = Array.from({ length: records }, (_, i) => first + BigInt(i));
    this.#batches.push(
      offsets.map((offset) => ({
        offset: String(offset),
        timestamp: '0',
        key: null,
        value: Buffer.from(String(offset)),
        headers: {},
        isControlRecord,
        batchContext,
      })),
    );
    this.#end += BigInt(records);
    return offsets;
  }
}

function lower(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function firstOffset(batch: readonly FetchedMessage[]): bigint {
  return BigInt(batch[0]?.offset ?? 0);
}

function lastOffset(batch: readonly FetchedMessage[]): bigint {
  return BigInt(batch.at(-1)?.offset ?? 0);
}
