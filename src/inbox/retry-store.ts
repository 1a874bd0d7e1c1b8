/** The SQL of retries (migrations/ferry/0146_inbox_retry.sql): dead letters that an operator has sent back to a group. */
import type { LogRecord } from '../kafka/log-reader.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { InboxEntry } from './inbox-store.ts';

/** A dead letter that is to be applied after all. */
export interface RetryRequest {
  readonly id: string;
  readonly entry: InboxEntry;
  /** As it came, or as an operator has changed it; its position is that in the source topic. */
  readonly record: LogRecord;
  /** Whether `record` is whole; otherwise its value and headers stand in the source topic only. */
  readonly carried: boolean;
}

export type RetryOutcome =
  | { readonly outcome: 'applied' | 'discarded' }
  | { readonly outcome: 'failed'; readonly code: string; readonly message: string };

interface RetryRow {
  readonly id: string;
  readonly event_id: InboxEntry['id'];
  readonly recorded_at: string;
  readonly topic: string;
  readonly partition: number;
  readonly record_offset: bigint;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, string>;
  readonly carried: boolean;
}

/** What is to be retried of these partitions, the longest asked for first; at most 100. */
export async function openRetries(
  db: Queryable,
  group: string,
  partitions: ReadonlyArray<{ topic: string; partition: number }>,
): Promise<RetryRequest[]> {
  const { rows } = await db.query<RetryRow>(
    `select id, event_id, recorded_at, topic, partition, record_offset, key, value, headers, carried
     from ferry.inbox_retry
     where consumer_group = $1 and outcome is null
       and (topic, partition) in (select * from unnest($2::text[], $3::int[]))
     order by id limit 100`,
    [group, partitions.map(({ topic }) => topic), partitions.map(({ partition }) => partition)],
  );
  return rows.map(({ id, event_id, recorded_at: recordedAt, record_offset: offset, carried, ...record }) => ({
    id,
    entry: { id: event_id, recordedAt },
    record: { ...record, offset, timestampMs: 0 },
    carried,
  }));
}

/**
 * Takes a dead-lettered event to be applied; false if the group has applied or discarded it meanwhile, or holds it parked. An event that the
 * inbox does not have is taken as well: whoever has it in hand right now waits for this transaction, and then finds it.
 */
export async function claimDeadLettered(
  tx: Queryable,
  group: string,
  { id, recordedAt }: InboxEntry,
): Promise<boolean> {
  const { rowCount } = await tx.query(
    `insert into ferry.inbox as known (consumer_group, event_id, recorded_at, outcome) values ($1, $2, $3, 'applied')
     on conflict (consumer_group, event_id, recorded_at) do update
     set outcome = 'applied', processed_at = clock_timestamp() where known.outcome = 'dead-lettered'`,
    [group, id, recordedAt],
  );
  return rowCount === 1;
}

/** Notes how a retry ended; one that has ended already stays as it is. */
export async function endRetry(db: Queryable, id: string, ended: RetryOutcome): Promise<void> {
  const { code, message } = ended.outcome === 'failed' ? ended : { code: null, message: null };
  await db.query(
    `update ferry.inbox_retry set outcome = $2, error_code = $3, error_message = $4, ended_at = clock_timestamp()
     where id = $1 and outcome is null`,
    [id, ended.outcome, code, message?.replaceAll('\u0000', '').slice(0, 1_000) ?? null],
  );
}

/** The value that an operator has put in the place of an event's own; null if none has. */
export async function patchedValue(db: Queryable, group: string, eventId: string): Promise<Buffer | null> {
  const { rows } = await db.query<{ value: Buffer }>(
    'select value from ferry.inbox_patch where consumer_group = $1 and event_id = $2',
    [group, eventId],
  );
  return rows[0]?.value ?? null;
}
