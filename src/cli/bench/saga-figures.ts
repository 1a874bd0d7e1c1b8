/** How fast fulfilments were, by the database's own clock: counted from their rows after the last one has ended. */
import type { Queryable } from '../../postgres/connection.ts';

export interface SagaFigures {
  readonly sagas: number;
  /** From the first start to the last end. */
  readonly seconds: number;
  readonly sagasPerSecond: number;
  /** While the middle eight tenths ended: without the beginning, in which none can end yet, and without the end, in which none begins. */
  readonly steadySagasPerSecond: number;
  /** From a saga's start, which follows the order's event, to its end. */
  readonly flowP50Ms: number;
  readonly flowP99Ms: number;
  /** Rows of the outbox, commands and answers and what they are about, over the same time. */
  readonly eventsPerSecond: number;
}

interface FiguresRow {
  sagas: number;
  seconds: number;
  steady_seconds: number;
  p50_ms: number;
  p99_ms: number;
  events: number;
}

const STEADY_SHARE = 0.8;

/** Of all fulfilments of the database, which must not hold others than those measured. */
export async function readSagaFigures(db: Queryable): Promise<SagaFigures> {
  const { rows } = await db.query<FiguresRow>(
    `with flow as (
       select started_at, ended_at, extract(epoch from ended_at) as ended, extract(epoch from ended_at - started_at) * 1000 as ms
       from ferry.saga where name = 'fulfilment' and ended_at is not null
     )
     select count(*)::int as sagas,
            coalesce(extract(epoch from max(ended_at) - min(started_at)), 0)::float8 as seconds,
            coalesce(percentile_cont(0.9) within group (order by ended) - percentile_cont(0.1) within group (order by ended), 0)::float8
              as steady_seconds,
            coalesce(percentile_cont(0.5) within group (order by ms), 0)::float8 as p50_ms,
            coalesce(percentile_cont(0.99) within group (order by ms), 0)::float8 as p99_ms,
            (select count(*)::int from ferry.outbox
             where recorded_at between (select min(started_at) from flow) and (select max(ended_at) from flow)) as events
     from flow`,
  );
  const row = rows[0];
  if (row === undefined) throw new Error('an aggregate gave no row');
  return {
    sagas: row.sagas,
    seconds: tenths(row.seconds),
    sagasPerSecond: tenths(row.sagas / row.seconds),
    steadySagasPerSecond: tenths((row.sagas * STEADY_SHARE) / row.steady_seconds),
    flowP50Ms: Math.round(row.p50_ms),
    flowP99Ms: Math.round(row.p99_ms),
    eventsPerSecond: Math.round(row.events / row.seconds),
  };
}

/** Zero for a rate over no time. */
function tenths(value: number): number {
  return Number.isFinite(value) ? Math.round(value * 10) / 10 : 0;
}
