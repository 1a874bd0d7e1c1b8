/** What the demo proves, and the way of one event through all the parts. */
import type { DatabaseName } from '../../config/databases.ts';
import type { Config } from '../../config/variables.ts';
import { topicRoutes } from '../../events/routes.ts';
import { sleep } from '../../kernel/deadline.ts';
import { findRecords } from '../../ops/record-finder.ts';
import type { Pool } from '../../postgres/connection.ts';
import type { Pools } from '../../postgres/pools.ts';
import { countEvents } from '../../reconcile/count.ts';
import type { IntegrityReport } from '../../reconcile/integrity.ts';
import type { EventLog } from '../event-log.ts';
import { readSlotStatus } from '../relay-status.ts';
import { describeRecord, type ShownEvent } from '../tail-command.ts';

/** A database's outbox, and the relay that publishes it. */
export interface Outbox {
  readonly database: DatabaseName;
  readonly pool: Pool;
  readonly relay: string;
}

export function outboxesOf(pools: Pools): Outbox[] {
  return [...pools.withRelays()].map(([database, owner]) => ({ database, ...owner }));
}

/** Waits until every committed row is known to be published. False when that did not happen in time; rejects with the signal's reason. */
export async function waitForQuiet(
  pool: Pool,
  relay: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while ((await readSlotStatus(pool, relay)).pending > 0) {
    if (performance.now() > deadline) return false;
    await sleep(100, signal);
    signal.throwIfAborted();
  }
  return true;
}

/** All outboxes against Kafka under read_committed; every value is decoded. */
export function proveIntegrity(
  outboxes: readonly Outbox[],
  events: EventLog,
  config: Config,
): Promise<IntegrityReport> {
  const { log, decoder, topicExists } = events;
  const pools = outboxes.map(({ pool }) => pool);
  return countEvents({ outboxes: pools, log, decoder, topicExists, routes: topicRoutes(config) });
}

/** How many rows each outbox has, by database. */
export async function countRows(outboxes: readonly Outbox[]): Promise<Record<string, number>> {
  const counts = outboxes.map(async ({ database, pool }) => {
    const { rows } = await pool.query<{ count: number }>('select count(*)::int as count from ferry.outbox');
    return [database, rows[0]?.count ?? 0] as const;
  });
  return Object.fromEntries(await Promise.all(counts));
}

export interface EventPath {
  readonly outbox: {
    readonly id: string;
    readonly seq: string;
    readonly transaction: string;
    readonly recordedAt: string;
  };
  readonly record: ShownEvent;
}

/** Follows an event from its row to its record; null if either is missing, which the counts tell then. */
export async function traceEvent(
  pool: Pool,
  events: EventLog,
  config: Config,
  eventId: string,
): Promise<EventPath | null> {
  const { rows } = await pool.query<EventPath['outbox'] & { aggregateType: string; key: string }>(
    `select id, seq::text, tx::text as transaction, recorded_at as "recordedAt", aggregatetype as "aggregateType", aggregateid as key
       from ferry.outbox where id = $1`,
    [eventId],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const { aggregateType, key, ...outbox } = row;
  const topic = topicRoutes(config).topicOf(aggregateType);
  const { records } = await findRecords(events, [{ id: eventId, topic, key, sinceMs: Date.parse(row.recordedAt) }]);
  const record = records.get(eventId);
  return record === undefined ? null : { outbox, record: await describeRecord(record, events.decoder) };
}
