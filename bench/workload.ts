/**
 * Fills the outbox fast: events of about 300 bytes of JSON, made inside Postgres, so that writing them is no part of what is measured.
 * Synchronous commit is off for the writing session only; the WAL is the same.
 */
import pg from 'pg';

export interface FillResult {
  readonly rows: number;
  readonly seconds: number;
  readonly averagePayloadBytes: number;
}

/** Writes `rows` events over 10,000 aggregates, `eventsPerTransaction` at a time. `cancelled`: every seventh is a cancellation. */
export async function fillOutbox(
  databaseUrl: string,
  rows: number,
  eventsPerTransaction: number,
  { cancelled = false } = {},
): Promise<FillResult> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('set synchronous_commit = off');
    await client.query(MAKE_PAYLOADS);
    const startedAt = performance.now();
    await client.query(fillStatement(rows, eventsPerTransaction, cancelled ? CANCELLED_TOO : PLACED));
    const seconds = (performance.now() - startedAt) / 1_000;
    const { rows: sizes } = await client.query<{ bytes: number }>(
      'select avg(octet_length(payload::text))::int as bytes from (select payload from ferry.outbox limit 1000) as sample',
    );
    return { rows, seconds, averagePayloadBytes: sizes[0]?.bytes ?? 0 };
  } finally {
    await client.end();
  }
}

const MAKE_PAYLOADS = `create or replace function pg_temp.order_placed(n bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object(
    'orderId', gen_random_uuid(),
    'customerId', 'customer-' || n % 1000,
    'customerEmail', 'customer-' || n % 1000 || '@example.com',
    'currency', 'EUR',
    'lines', jsonb_build_array(
      jsonb_build_object('sku', 'SKU-' || n % 9000, 'quantity', 2, 'unitPrice', '12.50'),
      jsonb_build_object('sku', 'SKU-' || n % 7000, 'quantity', 1, 'unitPrice', '7.25')),
    'total', '32.25',
    'placedAt', '2026-01-02T03:04:05.678901Z')
$$;
create or replace function pg_temp.order_cancelled(n bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object(
    'orderId', gen_random_uuid(),
    'customerId', 'customer-' || n % 1000,
    'reason', 'CUSTOMER_REQUEST',
    'currency', 'EUR',
    'total', n % 100 || '.25',
    'cancelledAt', '2026-01-02T03:04:05.678901Z')
$$`;

/** Type and payload of event n. */
const PLACED = `'commerce.OrderPlaced', pg_temp.order_placed(n)`;
const CANCELLED_TOO = `case when n % 7 = 0 then 'commerce.OrderCancelled' else 'commerce.OrderPlaced' end,
               case when n % 7 = 0 then pg_temp.order_cancelled(n) else pg_temp.order_placed(n) end`;

function fillStatement(rows: number, eventsPerTransaction: number, typeAndPayload: string): string {
  if (!Number.isSafeInteger(rows) || !Number.isSafeInteger(eventsPerTransaction) || eventsPerTransaction < 1) {
    throw new RangeError('rows and eventsPerTransaction are whole numbers above zero');
  }
  return `do $$
    declare
      first bigint := 0;
    begin
      while first < ${rows} loop
        insert into ferry.outbox (aggregatetype, aggregateid, aggregateversion, type, payload)
        select 'order', 'order-' || n % 10000, n / 10000 + 1, ${typeAndPayload}
        from generate_series(first, least(first + ${eventsPerTransaction}, ${rows}) - 1) as n;
        first := first + ${eventsPerTransaction};
        commit;
      end loop;
    end
  $$`;
}
