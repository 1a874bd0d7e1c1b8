/** Sagas as people see them: which there are, and one with all that ever happened to it. Reads only; never the data or a payload. */
import type { EventId } from '../kernel/event-id.ts';
import type { EventStatus } from '../outbox/event-status.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { HistoryEntry } from '../saga/instance.ts';
import type { InstanceState, StepState } from '../saga/states.ts';
import { spanContextOf } from '../telemetry/traces.ts';

export interface SagaSummary {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly key: string;
  readonly state: InstanceState;
  /** The step whose reply is waited for, or where it is stuck; null once it has ended. */
  readonly step: string | null;
  /** How often that step's command was sent since it was last given all its tries. */
  readonly tries: number;
  /** An operator wants it undone as soon as the step in flight is answered. */
  readonly cancelling: boolean;
  /** When it is looked at without a reply; null: never. */
  readonly dueAt: string | null;
  /** Code of why it is undone, or waits. */
  readonly errorCode: string | null;
  /** Of what started it; its commands continue the trace. */
  readonly traceId: string | null;
  readonly startedAt: string;
  readonly changedAt: string;
  readonly endedAt: string | null;
}

export interface SagaStepFacts {
  readonly step: string;
  readonly state: StepState;
  /** Number of the last command sent to do it; 0 for a step that was done before the saga. */
  readonly attempt: number;
  readonly undoAttempt: number;
  readonly changedAt: string;
}

/** A command or a reply, as the outbox knows it. */
export interface SagaEvent {
  readonly id: EventId;
  readonly type: string;
  /** Chooses the topic. */
  readonly aggregateType: string;
  /** The record's key, which chooses the partition. */
  readonly key: string;
  /** WAL position at the insert: a lower bound of the commit LSN, which stands in the record's `ferry_lsn`. */
  readonly lsn: string;
  readonly status: EventStatus;
  readonly traceId: string | null;
}

export interface SagaHistoryFacts extends Omit<HistoryEntry, 'cause' | 'eventId'> {
  readonly id: bigint;
  readonly at: string;
  readonly cause: HistoryEntry['cause'] | 'set-aside';
  readonly eventId: EventId | null;
  /** Null where there is none, or where this database's outbox does not hold it (any more). */
  readonly event: SagaEvent | null;
}

export interface SagaFacts extends SagaSummary {
  /** Why it is undone, or waits; may hold a participant's words. */
  readonly error: string | null;
  /** Those whose turn has come, in that order; first those that were done before the saga. */
  readonly steps: readonly SagaStepFacts[];
  /** Oldest first. */
  readonly history: readonly SagaHistoryFacts[];
  /** Whether the history is longer: then the oldest rows are left out. */
  readonly historyCut: boolean;
}

export interface SagaFilter {
  readonly name: string | null;
  readonly state: InstanceState | null;
  readonly key: string | null;
  readonly step: string | null;
  /** RFC 3339, inclusive. */
  readonly startedAfter: string | null;
  /** RFC 3339, exclusive. */
  readonly startedBefore: string | null;
  /** Only those with a smaller id, for the page after. */
  readonly before: string | null;
  readonly limit: number;
}

/** A saga that waits for long repeats its question without end: of that, the newest are enough. */
const MAX_HISTORY = 1_000;

const COLUMNS = `id, name, version, key, state, step, tries, cancelling, due_at as "dueAt", error_code as "errorCode",
  traceparent, started_at as "startedAt", changed_at as "changedAt", ended_at as "endedAt"`;

type SummaryRow = Omit<SagaSummary, 'traceId'> & { readonly traceparent: string | null };

/**
 * Newest first. Only who has not ended waits for a step: said to Postgres, it finds an index that is there for something else (500,000 sagas,
 * 1,000 of them under way: 1 ms instead of 300), whereas one of steps would be written with nearly every transition.
 */
export async function listSagas(db: Queryable, filter: SagaFilter): Promise<SagaSummary[]> {
  const { rows } = await db.query<SummaryRow>(
    `select ${COLUMNS} from ferry.saga
     where ($1::text is null or name = $1) and ($2::text is null or state = $2) and ($3::text is null or key = $3)
       and ($4::text is null or (step = $4 and ended_at is null)) and ($5::timestamptz is null or started_at >= $5)
       and ($6::timestamptz is null or started_at < $6) and ($7::uuid is null or id < $7)
     order by id desc limit $8`,
    [
      ...[filter.name, filter.state, filter.key, filter.step],
      ...[filter.startedAfter, filter.startedBefore, filter.before, filter.limit],
    ],
  );
  return rows.map(summaryOf);
}

/** The saga of a name about a key; null while there is none. */
export async function findSagaOfKey(db: Queryable, name: string, key: string): Promise<SagaSummary | null> {
  const { rows } = await db.query<SummaryRow>(`select ${COLUMNS} from ferry.saga where name = $1 and key = $2`, [
    name,
    key,
  ]);
  return rows[0] === undefined ? null : summaryOf(rows[0]);
}

/** As `findSaga`, without steps and history. */
export async function findSagaSummary(db: Queryable, id: string): Promise<SagaSummary | null> {
  const { rows } = await db.query<SummaryRow>(`select ${COLUMNS} from ferry.saga where id = $1`, [id]);
  return rows[0] === undefined ? null : summaryOf(rows[0]);
}

/** One saga with its steps and its history; `relay` is whose progress the events' status tells. Null if there is none of that id. */
export async function findSaga(db: Queryable, id: string, relay: string): Promise<SagaFacts | null> {
  const found = await db.query<SummaryRow & { readonly error: string | null }>(
    `select ${COLUMNS}, error from ferry.saga where id = $1`,
    [id],
  );
  const [row] = found.rows;
  if (row === undefined) return null;
  const steps = await readSteps(db, id);
  // Read last: so it never lacks what the instance and its steps tell of.
  const { history, historyCut } = await readHistory(db, id, relay);
  return { ...summaryOf(row), error: row.error, steps, history, historyCut };
}

async function readSteps(db: Queryable, sagaId: string): Promise<SagaStepFacts[]> {
  const { rows } = await db.query<SagaStepFacts>(
    `select step, state, attempt, undo_attempt as "undoAttempt", changed_at as "changedAt"
     from ferry.saga_step step where saga_id = $1
     order by attempt > 0, (select min(id) from ferry.saga_history where saga_id = $1 and saga_history.step = step.step)`,
    [sagaId],
  );
  return rows;
}

interface HistoryRow extends Omit<SagaHistoryFacts, 'event'> {
  readonly type: string | null;
  readonly aggregateType: string;
  readonly key: string;
  readonly lsn: string;
  readonly status: EventStatus;
  readonly traceparent: string | null;
}

async function readHistory(
  db: Queryable,
  sagaId: string,
  relay: string,
): Promise<{ history: SagaHistoryFacts[]; historyCut: boolean }> {
  const { rows } = await db.query<HistoryRow>(
    `select history.id, at, cause, step, from_state as "from", to_state as "to", purpose, attempt, event_id as "eventId",
            actor, reason, event.type, event.aggregatetype as "aggregateType", event.aggregateid as key,
            event.inserted_lsn as lsn, event.traceparent,
            case when event.id is not null then ferry.outbox_status(event.id, $2) end as status
     from ferry.saga_history history left join ferry.outbox event on event.id = history.event_id
     where saga_id = $1 order by history.id desc limit $3`,
    [sagaId, relay, MAX_HISTORY + 1],
  );
  const history = rows.slice(0, MAX_HISTORY).reverse().map(historyOf);
  return { history, historyCut: rows.length > MAX_HISTORY };
}

/** Those of the events that this database's outbox holds, by id: a participant's own holds its replies. */
export async function findEvents(
  db: Queryable,
  ids: readonly EventId[],
  relay: string,
): Promise<Map<EventId, SagaEvent>> {
  const { rows } = await db.query<Omit<SagaEvent, 'traceId'> & { readonly traceparent: string | null }>(
    `select id, type, aggregatetype as "aggregateType", aggregateid as key, inserted_lsn as lsn, traceparent,
            ferry.outbox_status(id, $2) as status
     from ferry.outbox where id = any ($1)`,
    [ids, relay],
  );
  return new Map(rows.map(({ traceparent, ...event }) => [event.id, { ...event, traceId: traceIdOf(traceparent) }]));
}

function historyOf({ type, aggregateType, key, lsn, status, traceparent, ...entry }: HistoryRow): SagaHistoryFacts {
  const { eventId } = entry;
  const event =
    eventId === null || type === null
      ? null
      : { id: eventId, type, aggregateType, key, lsn, status, traceId: traceIdOf(traceparent) };
  return { ...entry, event };
}

/** Column by column: what a caller selects beside them must not slip into lists. */
function summaryOf({ traceparent, ...row }: SummaryRow): SagaSummary {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    key: row.key,
    state: row.state,
    step: row.step,
    tries: row.tries,
    cancelling: row.cancelling,
    dueAt: row.dueAt,
    errorCode: row.errorCode,
    traceId: traceIdOf(traceparent),
    startedAt: row.startedAt,
    changedAt: row.changedAt,
    endedAt: row.endedAt,
  };
}

function traceIdOf(traceparent: string | null): string | null {
  return spanContextOf(traceparent)?.traceId ?? null;
}
