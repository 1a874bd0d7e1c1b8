/**
 * Writers that put into the outbox what applications do to one: single rows and transactions of thousands, COPY, rollbacks, savepoints,
 * prepared transactions that stay open while others commit. Each aggregate has one writer and its versions grow, so what is true in the
 * ledger (its order per aggregate) is known without looking. Survives a Postgres that goes away: what is in doubt is found out.
 */
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { v7 as uuidv7 } from 'uuid';
import { sleep } from '../../src/kernel/deadline.ts';
import { DurableClient } from './durable-client.ts';
import { orderCancelled, orderPlaced } from './order-payloads.ts';
import { createRandom, type Random } from './random.ts';

export interface WorkloadOptions {
  readonly databaseUrl: string;
  /** Default: random, and given back, so that a failed run can be repeated. */
  readonly seed?: number;
  /** Default 3. */
  readonly writers?: number;
  /** Aggregates of each writer; default 40. */
  readonly aggregates?: number;
  /** Ends when so many rows are committed, or when `signal` fires, whichever is first. */
  readonly rows?: number;
  readonly signal?: AbortSignal;
  /** About how many rows a second all writers commit together; default: as many as they can. */
  readonly rowsPerSecond?: number;
  /** Most rows in one transaction; default 5,000. */
  readonly largestTransaction?: number;
  /** Called with each transaction that is known to be committed. */
  readonly onCommit?: (rows: number) => void;
}

const KINDS = [
  { kind: 'single', weight: 30 },
  { kind: 'statements', weight: 20 },
  { kind: 'multi-row', weight: 20 },
  { kind: 'savepoint', weight: 10 },
  { kind: 'rollback', weight: 8 },
  { kind: 'copy', weight: 6 },
  { kind: 'prepared', weight: 5 },
  { kind: 'large', weight: 1 },
] as const;
export type TransactionKind = (typeof KINDS)[number]['kind'];

export interface WorkloadResult {
  readonly seed: number;
  /** What the outbox must hold more than before. */
  readonly committedRows: number;
  /** Rows that were inserted and must never be seen: rolled back, back to a savepoint, or lost with their connection. */
  readonly abandonedRows: number;
  readonly transactions: Readonly<Record<TransactionKind, number>>;
  /** How often a connection was lost. */
  readonly reconnects: number;
}

/** Runs until enough is committed; nothing is left prepared. Rejects with what was no loss of a connection. */
export async function runWorkload(options: WorkloadOptions): Promise<WorkloadResult> {
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 31);
  const tally: Tally = {
    committedRows: 0,
    abandonedRows: 0,
    reconnects: 0,
    transactions: Object.fromEntries(KINDS.map(({ kind }) => [kind, 0])) as Record<TransactionKind, number>,
  };
  const failed = new AbortController();
  const isOver = () =>
    failed.signal.aborted ||
    options.signal?.aborted === true ||
    (options.rows !== undefined && tally.committedRows >= options.rows);
  const writers = Array.from({ length: options.writers ?? 3 }, (_, index) => new Writer(index, seed, options, tally));
  const ends = await Promise.allSettled(
    writers.map((writer) =>
      writer.run(isOver).catch((error: unknown) => {
        failed.abort();
        throw error;
      }),
    ),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return { seed, ...tally };
}

interface Tally {
  committedRows: number;
  abandonedRows: number;
  reconnects: number;
  readonly transactions: Record<TransactionKind, number>;
}

interface Row {
  readonly id: string;
  readonly aggregatetype: string;
  readonly aggregateid: string;
  readonly aggregateversion: number;
  readonly type: string;
  readonly payload: object;
}

const INSERT = `insert into ferry.outbox (id, aggregatetype, aggregateid, aggregateversion, type, payload)
  select id, aggregatetype, aggregateid, aggregateversion, type, payload from jsonb_to_recordset($1::jsonb)
  as row(id uuid, aggregatetype text, aggregateid text, aggregateversion bigint, type text, payload jsonb)`;
const COPY = 'copy ferry.outbox (id, aggregatetype, aggregateid, aggregateversion, type, payload) from stdin';

class Writer {
  readonly #index: number;
  readonly #options: WorkloadOptions;
  readonly #seed: number;
  readonly #random: Random;
  readonly #tally: Tally;
  readonly #versions = new Map<string, number>();
  readonly #database: DurableClient;
  /** A prepared transaction that is still open. Its rows are of aggregates that nothing else writes to until it is closed. */
  #prepared: { gid: string; rows: Row[] } | undefined;

  constructor(index: number, seed: number, options: WorkloadOptions, tally: Tally) {
    this.#index = index;
    this.#options = options;
    this.#seed = seed;
    this.#random = createRandom(seed + index * 7919);
    this.#tally = tally;
    this.#database = new DurableClient(options.databaseUrl, () => {
      tally.reconnects += 1;
    });
  }

  async run(isOver: () => boolean): Promise<void> {
    try {
      await this.#database.connect();
      const startedAt = performance.now();
      while (!isOver()) {
        await this.#keepPace(startedAt);
        const kind = this.#random.weighted(KINDS).kind;
        await this.#transaction(kind);
        this.#tally.transactions[kind] += 1;
        if (this.#prepared !== undefined && this.#random.chance(0.3)) await this.#closePrepared();
      }
      await this.#closePrepared();
    } finally {
      await this.#database.end();
    }
  }

  /** Waits as long as all writers together are ahead of the rate. */
  async #keepPace(startedAt: number): Promise<void> {
    const { rowsPerSecond, signal } = this.#options;
    if (rowsPerSecond === undefined) return;
    const aheadMs = (this.#tally.committedRows / rowsPerSecond) * 1_000 - (performance.now() - startedAt);
    if (aheadMs > 0) await sleep(aheadMs, signal);
  }

  async #transaction(kind: TransactionKind): Promise<void> {
    switch (kind) {
      case 'single':
        return this.#commit(this.#rows(1), (client, rows) => insert(client, rows));
      case 'statements':
        return this.#commit(this.#rows(this.#random.between(2, 20)), (client, rows) =>
          inTransaction(client, async () => {
            for (const row of rows) await insert(client, [row]);
          }),
        );
      case 'multi-row':
        return this.#commit(this.#rows(this.#random.between(2, 100)), (client, rows) => insert(client, rows));
      case 'large':
        return this.#commit(this.#rows(this.#largest()), (client, rows) => insert(client, rows));
      case 'copy':
        return this.#commit(this.#rows(this.#random.between(2, 500)), (client, rows) => copy(client, rows));
      case 'savepoint':
        return this.#savepoint();
      case 'rollback':
        return this.#commit([], async (client) => {
          const rows = this.#rows(this.#random.between(1, 200));
          await client.query('begin');
          await insert(client, rows);
          await client.query('rollback');
          this.#tally.abandonedRows += rows.length;
        });
      case 'prepared':
        return this.#prepare();
    }
  }

  #largest(): number {
    const most = this.#options.largestTransaction ?? 5_000;
    return this.#random.between(Math.ceil(most / 5), most);
  }

  /** Rows before, rolled back to the savepoint, and after it. */
  #savepoint(): Promise<void> {
    const [before, undone, after] = [1, 2, 3].map(() => this.#rows(this.#random.between(1, 20)));
    return this.#commit([...(before ?? []), ...(after ?? [])], (client) =>
      inTransaction(client, async () => {
        await insert(client, before ?? []);
        await client.query('savepoint s');
        await insert(client, undone ?? []);
        await client.query('rollback to savepoint s');
        await insert(client, after ?? []);
        this.#tally.abandonedRows += undone?.length ?? 0;
      }),
    );
  }

  async #prepare(): Promise<void> {
    await this.#closePrepared();
    const rows = this.#rows(this.#random.between(1, 200), 'held');
    const prepared = { gid: `ferry-workload-${uuidv7()}`, rows };
    this.#prepared = prepared; // before it is: if the answer is lost, closing it finds out
    await this.#database.survive(async (client) => {
      await client.query('begin');
      await insert(client, rows);
      await client.query(`prepare transaction '${prepared.gid}'`);
    });
  }

  async #closePrepared(): Promise<void> {
    const prepared = this.#prepared;
    if (prepared === undefined) return;
    const verb = this.#random.chance(0.85) ? 'commit' : 'rollback';
    for (let open = true; open; ) {
      const lost = await this.#database.survive(async (client) => {
        const { rows } = await client.query('select from pg_prepared_xacts where gid = $1', [prepared.gid]);
        if (rows.length > 0) await client.query(`${verb} prepared '${prepared.gid}'`);
      });
      open = lost;
    }
    this.#prepared = undefined;
    await this.#settle(prepared.rows);
  }

  /** Runs `work`, which commits exactly `rows`; counts what became of them. */
  async #commit(rows: Row[], work: (client: pg.Client, rows: Row[]) => Promise<void>): Promise<void> {
    const lost = await this.#database.survive((client) => work(client, rows));
    if (lost) await this.#settle(rows);
    else this.#count(rows.length, 0);
  }

  /** Looks up whether the rows are there: they share a transaction, so one speaks for all. */
  async #settle(rows: readonly Row[]): Promise<void> {
    const first = rows[0];
    if (first === undefined) return;
    let committed = false;
    for (let unknown = true; unknown; ) {
      unknown = await this.#database.survive(async (client) => {
        committed = (await client.query('select from ferry.outbox where id = $1', [first.id])).rows.length > 0;
      });
    }
    this.#count(committed ? rows.length : 0, committed ? 0 : rows.length);
  }

  #count(committed: number, abandoned: number): void {
    this.#tally.committedRows += committed;
    this.#tally.abandonedRows += abandoned;
    if (committed > 0) this.#options.onCommit?.(committed);
  }

  #rows(count: number, group: 'free' | 'held' = 'free'): Row[] {
    return Array.from({ length: count }, () => {
      const number = this.#random.between(1, this.#options.aggregates ?? 40);
      const aggregateid = `${group}-${this.#seed}-${this.#index}-${number}`; // versions begin anew in each run
      const version = (this.#versions.get(aggregateid) ?? 0) + 1;
      this.#versions.set(aggregateid, version);
      const cancelled = version % 5 === 0;
      return {
        id: uuidv7(),
        aggregatetype: 'order',
        aggregateid,
        aggregateversion: version,
        type: cancelled ? 'commerce.OrderCancelled' : 'commerce.OrderPlaced',
        payload: cancelled ? orderCancelled(this.#random) : orderPlaced(this.#random),
      };
    });
  }
}

async function insert(client: pg.Client, rows: readonly Row[]): Promise<void> {
  await client.query(INSERT, [JSON.stringify(rows)]);
}

async function copy(client: pg.Client, rows: readonly Row[]): Promise<void> {
  const lines = rows.map((row) =>
    [row.id, row.aggregatetype, row.aggregateid, row.aggregateversion, row.type, JSON.stringify(row.payload)]
      .map((field) => String(field).replaceAll('\\', '\\\\'))
      .join('\t'),
  );
  const stream = client.query(copyFrom(COPY));
  stream.on('error', () => {}); // a connection lost just behind the last byte is told when nobody listens any more: the pipeline was told
  await pipeline([`${lines.join('\n')}\n`], stream);
}

async function inTransaction(client: pg.Client, work: () => Promise<void>): Promise<void> {
  await client.query('begin');
  await work();
  await client.query('commit');
}
