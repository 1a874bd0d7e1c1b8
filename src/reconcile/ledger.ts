/** Reads the outbox as a ledger: a few thousand rows at a time, in one snapshot; and which of its days have gone. */
import type { Pool } from '../postgres/connection.ts';
import type { LedgerRow } from './integrity.ts';

const ROWS_PER_FETCH = 10_000;

/**
 * Every committed row of one snapshot. `row_security = off` makes a policy that would hide rows an error instead of a lower count. The
 * connection goes back to the pool when the iteration ends, however it ends.
 */
export async function* readLedger(pool: Pool): AsyncGenerator<LedgerRow> {
  const client = await pool.connect();
  let failed = true;
  try {
    await client.query('begin isolation level repeatable read, read only');
    await client.query('set local row_security = off');
    await client.query(`declare ferry_ledger no scroll cursor for
      select id, aggregatetype as "aggregateType", aggregateid as "aggregateId", aggregateversion as "aggregateVersion"
      from ferry.outbox`);
    for (;;) {
      const { rows } = await client.query<LedgerRow>(`fetch ${ROWS_PER_FETCH} from ferry_ledger`);
      if (rows.length === 0) break;
      yield* rows;
    }
    await client.query('commit');
    failed = false;
  } finally {
    client.release(failed); // a connection in an unfinished transaction is not handed out again
  }
}

/**
 * Whether an event's day was taken out of the outbox, or is about to be, in the database that it may be of: days go from each by themselves, so
 * where any of them has let go of a day, a record without a row says nothing. UUIDs in lower case sort as text.
 */
export async function readRetired(outboxes: readonly Pool[]): Promise<(id: string) => boolean> {
  const ranges: Array<{ first: string; end: string }> = [];
  for (const pool of outboxes) {
    const { rows } = await pool.query<{ first: string; end: string }>(
      'select first_id::text as first, end_id::text as end from ferry.outbox_retired',
    );
    ranges.push(...rows);
  }
  return (id) => ranges.some(({ first, end }) => id >= first && id < end);
}
