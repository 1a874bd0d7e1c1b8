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

/** Writes `rows` events over 10,000 aggregates, `eventsPerTransaction` at a time. */
export async function fillOutbox(databaseUrl: string, rows: number, eventsPerTransaction: number): Promise<FillResult> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('set synchronous_commit = off');
    await client.query(MAKE_PAYLOAD);
    const startedAt = performance.now();
    await client.query(fillStatement(rows, eventsPerTransaction));
    const seconds = (performance.now() - startedAt) / 1_000;
    const { rows: sizes } = await client.query<{ bytes: number }>(
      'select avg(octet_length(payload::text))::int as bytes from (select payload from ferry.outbox limit 1000) as sample',
    );
    return { rows, seconds, averagePayloadBytes: sizes[0]?.bytes ?? 0 };
  } finally {
    await client.end();
  }
}

const MAKE_PAYLOAD = `create or replace function pg_temp.order_placed(n bigint) returns jsonb language sql volatile as $$
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
$$`;

function fillStatement(rows: number, eventsPerTransaction: number): string {
  if (!Number.isSafeInteger(rows) || !Number.isSafeInteger(eventsPerTransaction) || eventsPerTransaction < 1) {
    throw new RangeError('rows and eventsPerTransaction are whole numbers above zero');
  }
  return `do $$
    declare
      first bigint := 0;
    begin
      while first < ${rows} loop
        insert into ferry.outbox (aggregatetype, aggregateid, aggregateversion, type, payload)
        select 'order', 'order-' || n % 10000, n / 10000 + 1, 'commerce.OrderPlaced', pg_temp.order_placed(n)
        from generate_series(first, least(first + ${eventsPerTransaction}, ${rows}) - 1) as n;
        first := first + ${eventsPerTransaction};
        commit;
      end loop;
    end
  $$`;
}
