/** The jobs in Postgres: making, finding and locking them, and writing how far one is. */
import type { ErrorCode } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Selection, SelectionScope } from './selection.ts';
import { hasEnded, type ReplayState } from './states.ts';

/** What was asked for. */
export interface ReplayRequest {
  readonly selection: Selection;
  /** Side topic; null: each to the topic where it was. */
  readonly topic: string | null;
  /** Each record gets an event id of its own, so that inboxes take it for another event. */
  readonly newIds: boolean;
  /** Encoded with this schema; null: as they were. */
  readonly schemaId: number | null;
  readonly eventsPerSecond: number;
  readonly reason: string;
}

/** A row that cannot be published, and why; never its values. */
export interface UnfitRow {
  readonly eventId: string;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface Replay extends ReplayRequest, SelectionScope {
  readonly id: string;
  readonly relay: string;
  readonly state: ReplayState;
  readonly requestedBy: string;
  /** Everything of the selection fits: records may be published. */
  readonly checked: boolean;
  readonly cursorSeq: bigint;
  /** How many rows were found to be selected; final once `checked`. */
  readonly selected: bigint;
  readonly firstEventId: EventId | null;
  readonly lastEventId: EventId | null;
  readonly unfit: bigint;
  readonly unfitExamples: readonly UnfitRow[];
  /** Passed over as dead letters of the relay. */
  readonly leftOut: bigint;
  readonly emitted: bigint;
  /** The relay's when it first emitted; null before. */
  readonly epoch: number | null;
  readonly drainLsn: string | null;
  readonly errorCode: ErrorCode | null;
  readonly error: string | null;
  readonly startedAt: string;
  readonly changedAt: string;
  readonly endedAt: string | null;
}

const COLUMNS = `id, relay, state, selection, topic, new_ids as "newIds", schema_id as "schemaId",
  events_per_second as "eventsPerSecond", reason, requested_by as "requestedBy", snapshot::text as snapshot, first_seq as "firstSeq",
  last_seq as "lastSeq", checked, cursor_seq as "cursorSeq", selected, first_event_id as "firstEventId",
  last_event_id as "lastEventId", unfit, unfit_examples as "unfitExamples", left_out as "leftOut", emitted, epoch,
  drain_lsn::text as "drainLsn", error_code as "errorCode", error, started_at as "startedAt", changed_at as "changedAt",
  ended_at as "endedAt"`;

export async function insertReplay(
  tx: Queryable,
  job: ReplayRequest & SelectionScope & Pick<Replay, 'id' | 'relay' | 'requestedBy'>,
): Promise<void> {
  await tx.query(
    `insert into ferry.replay (id, relay, selection, topic, new_ids, schema_id, events_per_second, reason, requested_by,
                               snapshot, first_seq, last_seq, cursor_seq)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::pg_snapshot, $11::bigint, $12, $11::bigint - 1)`,
    [
      ...[job.id, job.relay, JSON.stringify(job.selection), job.topic, job.newIds, job.schemaId],
      ...[job.eventsPerSecond, job.reason, job.requestedBy, job.snapshot, job.firstSeq, job.lastSeq],
    ],
  );
}

export async function findReplay(db: Queryable, id: string): Promise<Replay | null> {
  const { rows } = await db.query<Replay>(`select ${COLUMNS} from ferry.replay where id = $1`, [id]);
  return rows[0] ?? null;
}

/** As `findReplay`, locked to the end of the transaction: waits for a step that is being taken. */
export async function lockReplay(tx: Queryable, id: string): Promise<Replay | null> {
  const { rows } = await tx.query<Replay>(`select ${COLUMNS} from ferry.replay where id = $1 for update`, [id]);
  return rows[0] ?? null;
}

/** Locks the one that is due the longest, passing over those that another process is at; null if there is none. */
export async function lockDueReplay(tx: Queryable, relay: string): Promise<Replay | null> {
  const { rows } = await tx.query<Replay>(
    `select ${COLUMNS} from ferry.replay
     where relay = $1 and ended_at is null and state in ('checking', 'running') and next_step_at <= clock_timestamp()
     order by next_step_at limit 1 for update skip locked`,
    [relay],
  );
  return rows[0] ?? null;
}

export interface ReplayFilter {
  readonly state: ReplayState | null;
  /** Only those with a smaller id, for the page after. */
  readonly before: string | null;
  readonly limit: number;
}

/** The newest first. */
export async function listReplays(db: Queryable, { state, before, limit }: ReplayFilter): Promise<Replay[]> {
  const { rows } = await db.query<Replay>(
    `select ${COLUMNS} from ferry.replay
     where ($1::text is null or state = $1) and ($2::uuid is null or id < $2) order by id desc limit $3`,
    [state, before, limit],
  );
  return rows;
}

/**
 * Writes how far a locked one is. It may go on `pauseMs` from when it was due, or from a quarter of a second ago if that is later: so a rate is
 * kept over many small steps, and what a slow step lost is not made up for in a rush.
 */
export async function saveReplay(tx: Queryable, job: Replay, pauseMs = 0): Promise<void> {
  await tx.query(
    `update ferry.replay
     set state = $2, checked = $3, cursor_seq = $4, selected = $5, first_event_id = $6, last_event_id = $7, unfit = $8, unfit_examples = $9,
         left_out = $10, emitted = $11, epoch = $12, drain_lsn = $13, error_code = $14, error = $15,
         ended_at = case when $16::boolean then clock_timestamp() end, changed_at = clock_timestamp(),
         next_step_at = greatest(next_step_at, clock_timestamp() - interval '250 ms') + $17 * interval '1 ms'
     where id = $1`,
    [
      ...[job.id, job.state, job.checked, job.cursorSeq, job.selected, job.firstEventId, job.lastEventId, job.unfit],
      ...[
        JSON.stringify(job.unfitExamples),
        job.leftOut,
        job.emitted,
        job.epoch,
        job.drainLsn,
        job.errorCode,
        job.error,
      ],
      ...[hasEnded(job.state), pauseMs],
    ],
  );
}

/** Puts one off that could not be gone on with, and says why; what it has done stays. */
export async function postponeReplay(
  db: Queryable,
  id: string,
  pauseMs: number,
  problem: { code: string; message: string },
): Promise<void> {
  await db.query(
    `update ferry.replay set next_step_at = clock_timestamp() + $2 * interval '1 ms', error_code = $3, error = $4
     where id = $1 and ended_at is null`,
    [id, pauseMs, problem.code, problem.message],
  );
}
