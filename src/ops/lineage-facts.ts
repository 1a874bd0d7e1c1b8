/** What one database knows of an event: its row, what went wrong with it, and the saga whose command or reply it is. */
import type { EventId } from '../kernel/event-id.ts';
import { type EventStatus, isDayRetired } from '../outbox/event-status.ts';
import type { Queryable } from '../postgres/connection.ts';
import { spanContextOf } from '../telemetry/traces.ts';

export interface RowFacts {
  readonly id: EventId;
  /** Whose outbox holds it. */
  readonly database: string;
  readonly aggregateType: string;
  readonly key: string;
  readonly aggregateVersion: bigint | null;
  readonly type: string;
  readonly occurredAt: string;
  readonly recordedAt: string;
  /** In order of insertion. */
  readonly seq: bigint;
  /** Id of the writing transaction. */
  readonly transaction: bigint;
  /** WAL position at the insert: a lower bound of the commit LSN. */
  readonly insertedLsn: string;
  /** That the writer pinned. */
  readonly schemaId: number | null;
  readonly status: EventStatus;
  readonly traceId: string | null;
}

export async function readRow(
  db: Queryable,
  id: EventId,
  { database, relay }: { database: string; relay: string },
): Promise<{ row: RowFacts | null; dayDropped: boolean }> {
  const { rows } = await db.query<Omit<RowFacts, 'database' | 'traceId'> & { traceparent: string | null }>(
    `select id, aggregatetype as "aggregateType", aggregateid as key, aggregateversion as "aggregateVersion", type,
            occurred_at as "occurredAt", recorded_at as "recordedAt", seq, tx::text::bigint as transaction,
            inserted_lsn::text as "insertedLsn", schema_id as "schemaId", ferry.outbox_status(id, $2) as status, traceparent
     from ferry.outbox where id = $1`,
    [id, relay],
  );
  const dayDropped = await isDayRetired(db, id);
  const [found] = rows;
  if (found === undefined) return { row: null, dayDropped };
  const { traceparent, ...row } = found;
  return { row: { ...row, database, traceId: spanContextOf(traceparent)?.traceId ?? null }, dayDropped };
}

export interface TroubleFacts {
  /** Name of a relay or of a consumer group. */
  readonly owner: string;
  readonly database: string;
  /** Why it is a dead letter, or an operator's action. */
  readonly code: string;
  readonly at: string;
  readonly detail: string | null;
}

/** Dead letters of relays, keys parked behind the event, and what operators did to it; the oldest first. */
export async function readTroubles(db: Queryable, id: EventId, database: string): Promise<TroubleFacts[]> {
  const { rows } = await db.query<Omit<TroubleFacts, 'database'>>(
    `select coalesce('group ' || consumer_group, 'relay') as owner, code, failed_at as at,
            concat_ws(', ', 'dead letter ' || id, state, nullif(retries, 0) || ' retries', state_by, state_reason) as detail
       from ferry.dead_letter where event_id = $1
     union all
     select 'relay ' || relay, error_code, recorded_at, 'dead letter, not in the store yet' from ferry.relay_dead_letter noted
       where event_id = $1
         and not exists (select from ferry.dead_letter where consumer_group is null and event_id = noted.event_id)
     union all
     select 'group ' || consumer_group, error_code, parked_at, format('its key is parked behind it, %s events wait', events)
       from ferry.parked_key where event_id = $1
     union all
     select principal, action, at, reason from ferry.audit where event_id = $1 and reason is not null
     order by at limit 100`,
    [id],
  );
  return rows.map((row) => ({ ...row, database }));
}

export interface SagaStepOfEvent {
  readonly sagaId: string;
  readonly name: string;
  /** Of the saga, now. */
  readonly state: string;
  readonly step: string | null;
  /** `command` or `reply`, and others of the saga's history. */
  readonly cause: string;
  readonly purpose: string | null;
  readonly attempt: number | null;
  readonly at: string;
}

/** The transitions that sent it or were brought about by it: of the sagas about its key, for that is the key of their commands and replies. */
export async function readSagaSteps(db: Queryable, id: EventId, key: string): Promise<SagaStepOfEvent[]> {
  const { rows } = await db.query<SagaStepOfEvent & Record<string, unknown>>(
    `select saga.id as "sagaId", saga.name, saga.state, history.step, cause, purpose, attempt, at
     from (select distinct name from ferry.saga_definition) known
     join ferry.saga on saga.name = known.name and saga.key = $2
     join ferry.saga_history history on history.saga_id = saga.id and history.event_id = $1
     order by history.id limit 100`,
    [id, key],
  );
  return rows;
}
