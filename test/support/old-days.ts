/** Days long past in an outbox of today: ids of another day are refused by its trigger, so these rows are written past it, as a superuser may. */
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { orderPlaced } from './order-payloads.ts';
import { createRandom } from './random.ts';

const DAY_MS = 86_400_000;

/** `2026-01-31`, so many days ago. */
export function dayAgo(days: number): string {
  return new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10);
}

/** An id in the middle of the day. */
export function idOfDay(days: number): string {
  return uuidv7({ msecs: Date.parse(`${dayAgo(days)}T12:00:00Z`) });
}

/** Makes the partitions of days so many days ago, and moves the guard below the oldest. */
export async function makeOldDays(databaseUrl: string, daysAgo: readonly number[]): Promise<void> {
  const floor = (day: string, plus: number) =>
    `quote_literal(ferry.uuid_floor(('${day}'::date + ${plus})::timestamp at time zone 'UTC'))`;
  const oldest = dayAgo(Math.max(...daysAgo));
  await onOneConnection(databaseUrl, async (client) => {
    await client.query('begin');
    await client.query('drop table ferry.outbox_guard_before');
    for (const day of daysAgo.map(dayAgo)) {
      const name = `outbox_${day.replaceAll('-', '')}`;
      await client.query(`select ferry.make_outbox_partition('${name}', ${floor(day, 0)}, ${floor(day, 1)})`);
    }
    await client.query(`select ferry.make_outbox_partition('outbox_guard_before', 'minvalue', ${floor(oldest, 0)})`);
    await client.query('commit');
  });
}

/** Writes events of a day so many days ago, `perTransaction` at once; resolves with their ids. Each aggregate's versions grow. */
export async function writeOldEvents(
  databaseUrl: string,
  days: number,
  count: number,
  perTransaction = 50,
): Promise<string[]> {
  const random = createRandom(days);
  const ids: string[] = [];
  await onOneConnection(databaseUrl, async (client) => {
    await client.query('set session_replication_role = replica');
    while (ids.length < count) {
      const batch = Array.from({ length: Math.min(perTransaction, count - ids.length) }, () => idOfDay(days));
      await client.query(
        `insert into ferry.outbox (id, aggregatetype, aggregateid, type, payload, seq, recorded_at, tx, inserted_lsn)
         select id, 'order', 'old-' || $2 || '-' || (number % 20), 'commerce.OrderPlaced', payload, nextval('ferry.outbox_seq'),
                clock_timestamp(), pg_current_xact_id(), pg_current_wal_insert_lsn()
         from unnest($1::uuid[], $3::jsonb[]) with ordinality as event (id, payload, number)`,
        [batch, days, batch.map(() => JSON.stringify(orderPlaced(random)))],
      );
      ids.push(...batch);
    }
  });
  return ids;
}

/** Notes a day so many days ago as one that retention has dropped. */
export async function noteDroppedDay(databaseUrl: string, days: number): Promise<void> {
  await onOneConnection(databaseUrl, async (client) => {
    await client.query(
      `insert into ferry.outbox_retired (day, first_id, end_id, rows, dropped_at)
       select day, ferry.uuid_floor(day::timestamp at time zone 'UTC'), ferry.uuid_floor((day + 1)::timestamp at time zone 'UTC'), 3, now()
       from (select $1::date as day) as dropped`,
      [dayAgo(days)],
    );
  });
}

async function onOneConnection(databaseUrl: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
