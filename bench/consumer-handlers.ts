/** What bench/consumers.ts lets a group do, how far it has come with it, and whether it did it right. */
import { join } from 'node:path';
import type { Pool } from '../src/postgres/connection.ts';
import { assertTotalsEqualLedger } from '../test/support/order-totals.ts';

export interface Handler {
  /** Program of a member; undefined: Ferry's role `projection`. */
  readonly script?: string;
  prepare(pool: Pool): Promise<void>;
  /** Events whose effect is seen. */
  applied(pool: Pool): Promise<number>;
  /** Fails unless each event had its effect once, in the order of its key as far as the handler can tell. */
  assertSound(pool: Pool, events: number): Promise<void>;
}

const SCRIPT = join(import.meta.dirname, 'consumer-member.ts');

const projection: Handler = {
  async prepare() {},
  applied: (pool) =>
    count(pool, 'select coalesce(sum(placed + cancelled), 0)::int as count from commerce.orders_per_customer'),
  assertSound: (pool) => assertTotalsEqualLedger(pool),
};

const ordered: Handler = {
  script: SCRIPT,
  async prepare(pool) {
    await pool.query(
      `create table public.applied_key (
         aggregate_id text primary key, first_version bigint not null, version bigint not null, applied int not null,
         out_of_order int not null) with (fillfactor = 50)`,
    );
  },
  applied: (pool) => count(pool, 'select coalesce(sum(applied), 0)::int as count from public.applied_key'),
  async assertSound(pool) {
    const faulty = await count(
      pool,
      `select count(*)::int as count
       from (select aggregateid, count(*) as events from ferry.outbox group by 1) as ledger
       full join public.applied_key kept on kept.aggregate_id = ledger.aggregateid
       where kept.applied is distinct from ledger.events or kept.out_of_order <> 0`,
    );
    if (faulty !== 0) throw new Error(`${faulty} keys have events applied not once or out of order`);
  },
};

const HANDLERS: Readonly<Record<string, Handler>> = { projection, ordered, each: ordered };

/** Throws a RangeError for a name that is none. */
export function handlerOf(name: string): Handler {
  const handler = HANDLERS[name];
  if (handler === undefined) throw new RangeError(`--handler takes ${Object.keys(HANDLERS).join(', ')}`);
  return handler;
}

async function count(pool: Pool, statement: string): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(statement);
  return rows[0]?.count ?? 0;
}
