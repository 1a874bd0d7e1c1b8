/** The dead-letter store as operators read it: lists, causes, one letter. Reads only; payloads are another file's concern. */
import type { DeadLetterState } from '../deadletter/states.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import { bytesOfKey, textOfKey } from './parked-keys.ts';

export interface DeadLetterSummary {
  readonly id: string;
  /** Null: the relay could not publish it. */
  readonly group: string | null;
  readonly eventId: EventId | null;
  readonly type: string | null;
  /** Where it came from, or was to go to. */
  readonly sourceTopic: string;
  /** As text; bytes that are no UTF-8 are hexadecimal behind `0x`. */
  readonly key: string | null;
  readonly code: string;
  readonly errorMessage: string;
  /** The parked event that it waits behind. */
  readonly blockedBy: string | null;
  readonly state: DeadLetterState;
  readonly firstFailedAt: string;
  readonly failedAt: string;
  /** How often it is in the dead-letter topic. */
  readonly copies: number;
  readonly retries: number;
}

export interface DeadLetterFacts extends DeadLetterSummary {
  /** In the source topic `<partition>/<offset>`, in the WAL `<commit LSN>/<seq>`. */
  readonly sourcePosition: string;
  readonly errorType: string;
  readonly errorStack: string | null;
  readonly retryCount: number;
  readonly maxRetries: number;
  readonly replayable: boolean;
  readonly originalRecord: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly schemaId: number | null;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly stateAt: string;
  readonly stateBy: string | null;
  readonly stateReason: string | null;
  /** When its owner was told of what was decided. */
  readonly toldAt: string | null;
}

/** One letter with what its bytes are; whoever shows them takes out personal data first. */
export interface DeadLetterContents extends DeadLetterFacts {
  readonly keyBytes: Buffer | null;
  readonly value: Buffer | null;
  /** JSON text; null where it could not be decoded. */
  readonly payload: string | null;
  /** What an operator made of it, JSON text. */
  readonly patched: string | null;
}

export interface DeadLetterFilter {
  readonly type: string | null;
  readonly code: string | null;
  /** The source topic, or the dead-letter topic. */
  readonly topic: string | null;
  readonly key: string | null;
  readonly group: string | null;
  readonly state: DeadLetterState | null;
  /** RFC 3339, of the last failure: inclusive. */
  readonly failedAfter: string | null;
  /** Exclusive. */
  readonly failedBefore: string | null;
}

export interface DeadLetterCause {
  readonly group: string | null;
  readonly sourceTopic: string;
  readonly type: string | null;
  readonly code: string;
  readonly errorType: string;
  readonly count: number;
  readonly firstFailedAt: string;
  readonly lastFailedAt: string;
  /** A letter of it to look at. */
  readonly example: string;
  readonly exampleMessage: string;
}

const SUMMARY = `id, consumer_group as "group", event_id as "eventId", event_type as type, source_topic as "sourceTopic", key, code,
  error_message as "errorMessage", blocked_by as "blockedBy", state, first_failed_at as "firstFailedAt", failed_at as "failedAt",
  copies, retries`;
const FACTS = `${SUMMARY}, source_position as "sourcePosition", error_type as "errorType", error_stack as "errorStack",
  retry_count as "retryCount", max_retries as "maxRetries", replayable, original_record as "originalRecord", headers,
  schema_id as "schemaId", topic, partition, record_offset as "offset", state_at as "stateAt", state_by as "stateBy",
  state_reason as "stateReason", told_at as "toldAt"`;

/** `$1` to `$8` as `filterValues` gives them. */
export const FILTER = `($1::text is null or event_type = $1) and ($2::text is null or code = $2)
  and ($3::text is null or source_topic = $3 or topic = $3) and ($4::bytea is null or key = $4)
  and ($5::text is null or consumer_group = $5) and ($6::text is null or state = $6)
  and ($7::timestamptz is null or failed_at >= $7) and ($8::timestamptz is null or failed_at < $8)`;

export function filterValues(filter: DeadLetterFilter): unknown[] {
  const { type, code, topic, key, group, state, failedAfter, failedBefore } = filter;
  return [type, code, topic, key === null ? null : bytesOfKey(key), group, state, failedAfter, failedBefore];
}

type WithKey<T extends { readonly key: string | null }> = Omit<T, 'key'> & { readonly key: Buffer | null };

/** Newest first, those with an id smaller than `before`. */
export async function listDeadLetters(
  db: Queryable,
  filter: DeadLetterFilter & { readonly before: string | null; readonly limit: number },
): Promise<DeadLetterSummary[]> {
  const { rows } = await db.query<WithKey<DeadLetterSummary>>(
    `select ${SUMMARY} from ferry.dead_letter where ${FILTER} and ($9::uuid is null or id < $9) order by id desc limit $10`,
    [...filterValues(filter), filter.before, filter.limit],
  );
  return rows.map(keyAsText);
}

const MAX_CAUSES = 200;

/** What went wrong, by cause, the most frequent first; at most 200. */
export async function listCauses(db: Queryable, filter: DeadLetterFilter): Promise<DeadLetterCause[]> {
  const { rows } = await db.query<DeadLetterCause>(
    `select consumer_group as "group", source_topic as "sourceTopic", event_type as type, code, error_type as "errorType",
            count(*)::int as count, min(first_failed_at) as "firstFailedAt", max(failed_at) as "lastFailedAt",
            max(id::text) as example, (array_agg(error_message order by id desc))[1] as "exampleMessage"
     from ferry.dead_letter where ${FILTER}
     group by 1, 2, 3, 4, 5 order by count(*) desc, max(id::text) desc limit ${MAX_CAUSES}`,
    filterValues(filter),
  );
  return rows;
}

/** Rejects with NOT_FOUND. */
export async function findDeadLetter(db: Queryable, id: string): Promise<DeadLetterContents> {
  const { rows } = await db.query<WithKey<DeadLetterContents>>(
    `select ${FACTS}, key as "keyBytes", value, payload::text, patched::text from ferry.dead_letter where id = $1`,
    [id],
  );
  const [row] = rows;
  if (row === undefined) throw new FerryError('NOT_FOUND', `there is no dead letter ${id}`);
  return keyAsText(row);
}

/** Rejects with NOT_FOUND. */
export async function findDeadLetterSummary(db: Queryable, id: string): Promise<DeadLetterSummary> {
  const { rows } = await db.query<WithKey<DeadLetterSummary>>(
    `select ${SUMMARY} from ferry.dead_letter where id = $1`,
    [id],
  );
  const [row] = rows;
  if (row === undefined) throw new FerryError('NOT_FOUND', `there is no dead letter ${id}`);
  return keyAsText(row);
}

function keyAsText<T extends { readonly key: Buffer | null }>(row: T): Omit<T, 'key'> & { key: string | null } {
  return { ...row, key: row.key === null ? null : textOfKey(row.key) };
}
