/** Instances of sagas in Postgres: locking, reading and writing them, many at once. */
import type { ErrorCode } from '../kernel/errors.ts';
import { parseExactJson, stringifyExactJson } from '../kernel/exact-json.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { SagaData } from './definition.ts';
import type { Decision, HistoryEntry, SagaInstance, StepRecord } from './instance.ts';
import type { InstanceState, StepState } from './states.ts';

export interface LockedSaga {
  readonly instance: SagaInstance;
  /** Since its start. */
  readonly ageSeconds: number;
  /** Since its timer was due; 0 if it is not, or has none. */
  readonly lateMs: number;
}

/** What came of an instance in one transaction. `before` is null for one that has just been started. */
export interface SagaChange extends Decision {
  readonly before: SagaInstance | null;
}

interface SagaRow {
  id: string;
  name: string;
  version: number;
  key: string;
  state: InstanceState;
  data: string;
  step: string | null;
  tries: number;
  cancelling: boolean;
  error_code: ErrorCode | null;
  error: string | null;
  traceparent: string | null;
  age_seconds: number;
  late_ms: number;
}

const COLUMNS = `id, name, version, key, state, data::text as data, step, tries, cancelling, error_code, error, traceparent,
  extract(epoch from clock_timestamp() - started_at)::float8 as age_seconds,
  greatest(0, extract(epoch from now() - due_at) * 1000)::float8 as late_ms`;

/** Locks the instances to the end of the transaction, in the order of their ids: two who lock several never wait in a circle. */
export async function lockSagas(tx: Queryable, ids: readonly string[]): Promise<Map<string, LockedSaga>> {
  const { rows } = await tx.query<SagaRow>(
    `select ${COLUMNS} from ferry.saga where id = any($1::uuid[]) order by id for update`,
    [ids],
  );
  return withSteps(tx, rows);
}

export interface DueSelection {
  readonly limit: number;
  /** Only these; null: whichever are due. */
  readonly ids: readonly string[] | null;
  /** Names and versions of the definitions that the caller has. */
  readonly definitions: ReadonlyArray<{ readonly name: string; readonly version: number }>;
}

/** Locks instances whose timer is due, the longest due first, passing over those that somebody else has locked. */
export async function lockDueSagas(
  tx: Queryable,
  { limit, ids, definitions }: DueSelection,
): Promise<Map<string, LockedSaga>> {
  const { rows } = await tx.query<SagaRow>(
    `select ${COLUMNS} from ferry.saga
     where due_at <= now() and ($2::uuid[] is null or id = any($2))
       and (name, version) in (select * from unnest($3::text[], $4::int[]))
     order by due_at limit $1 for update skip locked`,
    [limit, ids, definitions.map(({ name }) => name), definitions.map(({ version }) => version)],
  );
  return withSteps(tx, rows);
}

/** The steps are read in a statement of their own: the one that waited for the locks sees other tables as they were before the wait. */
async function withSteps(tx: Queryable, rows: readonly SagaRow[]): Promise<Map<string, LockedSaga>> {
  if (rows.length === 0) return new Map();
  const steps = await tx.query<{
    saga_id: string;
    step: string;
    state: StepState;
    attempt: number;
    undo_attempt: number;
  }>('select saga_id, step, state, attempt, undo_attempt from ferry.saga_step where saga_id = any($1::uuid[])', [
    rows.map(({ id }) => id),
  ]);
  const bySaga = new Map(rows.map(({ id }) => [id, new Map<string, StepRecord>()]));
  for (const { saga_id, step, state, attempt, undo_attempt } of steps.rows) {
    bySaga.get(saga_id)?.set(step, { state, attempt, undoAttempt: undo_attempt });
  }
  return new Map(
    rows.map((row) => {
      const { id, age_seconds: ageSeconds, late_ms: lateMs } = row;
      return [id, { instance: instanceOf(row, bySaga), ageSeconds, lateMs }];
    }),
  );
}

function instanceOf(
  { data, error_code, error, age_seconds: _age, late_ms: _late, ...row }: SagaRow,
  steps: ReadonlyMap<string, ReadonlyMap<string, StepRecord>>,
): SagaInstance {
  return {
    ...row,
    data: parseExactJson(data) as SagaData,
    // That its timer failed is over with the next thing that is decided.
    problem: error_code === null || error_code === SET_ASIDE ? null : { code: error_code, text: error ?? '' },
    steps: steps.get(row.id) ?? new Map(),
  };
}

/** Inserts new instances; returns the ids of those whose name and key were not taken. Waits for others that start the same. */
export async function insertSagas(tx: Queryable, changes: readonly SagaChange[]): Promise<Set<string>> {
  const instances = changes.map((change) => change.instance);
  const { rows } = await tx.query<{ id: string }>(
    `insert into ferry.saga (id, name, version, key, traceparent, state, data, step, tries, due_at)
     select id, name, version, key, traceparent, state, data, step, tries, clock_timestamp() + due_in_ms * interval '1 ms'
     from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::int[],
                 $10::float8[])
       as given (id, name, version, key, traceparent, state, data, step, tries, due_in_ms)
     order by key
     on conflict (name, key) do nothing returning id`,
    [
      instances.map(({ id }) => id),
      instances.map(({ name }) => name),
      instances.map(({ version }) => version),
      instances.map(({ key }) => key),
      instances.map(({ traceparent }) => traceparent),
      instances.map(({ state }) => state),
      instances.map(({ data }) => stringifyExactJson(data)),
      instances.map(({ step }) => step),
      instances.map(({ tries }) => tries),
      changes.map(({ timer }) => (timer === 'unchanged' ? null : timer)),
    ],
  );
  return new Set(rows.map(({ id }) => id));
}

/** The ids of the sagas of a name, by key. */
export async function sagaIdsByKey(tx: Queryable, name: string, keys: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await tx.query<{ id: string; key: string }>(
    'select id, key from ferry.saga where name = $1 and key = any($2::text[])',
    [name, keys],
  );
  return new Map(rows.map(({ key, id }) => [key, id]));
}

/** Writes what came of locked instances. */
export async function updateSagas(tx: Queryable, changes: readonly SagaChange[]): Promise<void> {
  const instances = changes.map((change) => change.instance);
  await tx.query(
    `update ferry.saga saga
     set state = given.state, data = coalesce(given.data, saga.data), step = given.step, tries = given.tries,
         cancelling = given.cancelling, error_code = given.error_code, error = given.error, timer_failures = 0,
         due_at = case when given.keeps_due then saga.due_at else clock_timestamp() + given.due_in_ms * interval '1 ms' end,
         changed_at = clock_timestamp(),
         ended_at = case when given.state in ('completed', 'compensated') then coalesce(saga.ended_at, clock_timestamp()) end
     from unnest($1::uuid[], $2::text[], $3::jsonb[], $4::text[], $5::int[], $6::boolean[], $7::text[], $8::text[],
                 $9::boolean[], $10::float8[])
       as given (id, state, data, step, tries, cancelling, error_code, error, keeps_due, due_in_ms)
     where saga.id = given.id`,
    [
      instances.map(({ id }) => id),
      instances.map(({ state }) => state),
      changes.map(({ before, instance }) =>
        before?.data === instance.data ? null : stringifyExactJson(instance.data),
      ),
      instances.map(({ step }) => step),
      instances.map(({ tries }) => tries),
      instances.map(({ cancelling }) => cancelling),
      instances.map(({ problem }) => problem?.code ?? null),
      instances.map(({ problem }) => problem?.text ?? null),
      changes.map(({ timer }) => timer === 'unchanged'),
      changes.map(({ timer }) => (timer === 'unchanged' ? null : timer)),
    ],
  );
}

/** Writes the steps that changed, and the history. */
export async function writeSteps(tx: Queryable, changes: readonly SagaChange[]): Promise<void> {
  const steps = changes.flatMap(({ before, instance }) =>
    [...instance.steps]
      .filter(([name, record]) => before?.steps.get(name) !== record)
      .map(([name, record]) => ({ sagaId: instance.id, name, ...record })),
  );
  const history = changes.flatMap(({ instance, history }) =>
    history.map((entry) => ({ sagaId: instance.id, ...entry })),
  );
  if (history.length === 0) return; // nothing changes without a row of history
  await tx.query(
    `with stepped as (
       insert into ferry.saga_step as step (saga_id, step, state, attempt, undo_attempt)
       select * from unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::int[])
       on conflict (saga_id, step) do update
       set state = excluded.state, attempt = excluded.attempt, undo_attempt = excluded.undo_attempt, changed_at = clock_timestamp()
     )
     insert into ferry.saga_history (saga_id, cause, step, from_state, to_state, purpose, attempt, event_id, actor, reason)
     select * from unnest($6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::uuid[],
                          $14::text[], $15::text[])`,
    [
      steps.map(({ sagaId }) => sagaId),
      steps.map(({ name }) => name),
      steps.map(({ state }) => state),
      steps.map(({ attempt }) => attempt),
      steps.map(({ undoAttempt }) => undoAttempt),
      ...historyColumns(history),
    ],
  );
}

function historyColumns(history: ReadonlyArray<HistoryEntry & { readonly sagaId: string }>): unknown[] {
  return [
    history.map(({ sagaId }) => sagaId),
    history.map(({ cause }) => cause),
    history.map(({ step }) => step),
    history.map(({ from }) => from),
    history.map(({ to }) => to),
    history.map(({ purpose }) => purpose),
    history.map(({ attempt }) => attempt),
    history.map(({ eventId }) => eventId),
    history.map(({ actor }) => actor),
    history.map(({ reason }) => reason),
  ];
}

/** The longest that a poison instance waits before its timer is tried again. */
const MAX_SET_ASIDE_SECONDS = 600;

const SET_ASIDE: ErrorCode = 'SAGA_TIMER_FAILED';

/**
 * Puts off the timer of an instance that fails by itself, for longer each time; whether it was still due. An instance that has a problem
 * already keeps it: the history has both.
 */
export async function setAside(tx: Queryable, id: string, why: string): Promise<boolean> {
  const { rowCount } = await tx.query(
    `with aside as (
       update ferry.saga
       set timer_failures = timer_failures + 1, error_code = coalesce(error_code, $2),
           error = case when coalesce(error_code, $2) = $2 then $3 else error end, changed_at = clock_timestamp(),
           due_at = clock_timestamp() + least($4, power(2, least(timer_failures, 20))) * (0.5 + random() / 2) * interval '1 s'
       where id = $1 and due_at <= now() returning id, state, step
     )
     insert into ferry.saga_history (saga_id, cause, from_state, to_state, reason)
     select id, 'set-aside', state, state, $3 from aside`,
    [id, SET_ASIDE, why, MAX_SET_ASIDE_SECONDS],
  );
  return rowCount === 1;
}

/** How many instances wait for an operator, by state. */
export async function countWaiting(db: Queryable): Promise<Record<'stuck' | 'compensation_failed', number>> {
  const { rows } = await db.query<{ stuck: number; compensation_failed: number }>(
    `select count(*) filter (where state = 'stuck')::int as stuck,
            count(*) filter (where state = 'compensation_failed')::int as compensation_failed
     from ferry.saga where state in ('stuck', 'compensation_failed')`,
  );
  return rows[0] ?? { stuck: 0, compensation_failed: 0 };
}
