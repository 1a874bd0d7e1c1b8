/**
 * What an operator decides about dead letters. Only the store is written here, with the audit, in the caller's transaction; the letters' owners
 * are told by src/deadletter/settlement.ts, which also finds out what became of it.
 */
import type { PayloadViews } from '../deadletter/payload-views.ts';
import { type DeadLetterState, requireTransition } from '../deadletter/states.ts';
import { type Actor, recordOperation } from '../domain/audit.ts';
import { type EventEncoder, encodeFresh } from '../events/encoder.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import type { Queryable } from '../postgres/connection.ts';
import { isDataError } from '../postgres/sqlstate.ts';
import { unredact } from '../registry/redaction.ts';
import { type DeadLetterFilter, FILTER, filterValues } from './dead-letters.ts';

/** How payloads are read, and checked against the registered schemas. */
export interface PayloadTools {
  readonly views: PayloadViews;
  readonly encoder: EventEncoder;
}

export interface Decision {
  readonly id: string;
  /** Why: it stands in the letter and in the audit. */
  readonly reason: string;
}

interface LockedLetter {
  readonly id: string;
  readonly group: string | null;
  readonly eventId: EventId | null;
  readonly type: string | null;
  readonly state: DeadLetterState;
  readonly sourceTopic: string;
  readonly payload: string | null;
  readonly schemaId: number | null;
  readonly value: Buffer | null;
}

/** What is to stand in the place of a letter's own payload: encoded, and as text. */
interface Patch {
  readonly text: string;
  readonly value: Buffer | null;
}

/** Of a letter's reason: an edited event is kept with it (ferry.event_patch). */
const MAX_REASON_CHARACTERS = 1_000;

/** Has the letter taken up once more, as it is. Rejects with NOT_FOUND, or CONFLICT if its state does not allow it. */
export async function retryLetter(tx: Queryable, actor: Actor, { id, reason }: Decision): Promise<void> {
  const letter = await lockLetter(tx, id);
  requireRetryable(letter, 'retried');
  await retry(tx, actor, letter, reason, null);
  const { eventId } = letter;
  await recordOperation(tx, actor, { action: 'dead-letter.retry', subject: `dead-letter/${id}`, eventId, reason });
}

/**
 * As `retryLetter`, with another payload; the original stays. `[redacted]` in it stands for what the original has there. Rejects with the
 * encoder's refusal if the registered schema does not take it, and as `retryLetter` does.
 */
export async function editAndRetryLetter(
  tx: Queryable,
  actor: Actor,
  { id, reason, payload }: Decision & { readonly payload: unknown },
  { views, encoder }: PayloadTools,
): Promise<void> {
  const letter = await lockLetter(tx, id);
  requireRetryable(letter, 'retried');
  if (letter.type === null) throw new FerryError('CONFLICT', `dead letter ${id} does not say of which type it is`);
  const text = stringifyExactJson(unredact(payload, await views.whole(letter), '/payload'));
  const event = { type: letter.type, payload: { kind: 'json', text }, schemaId: null } as const;
  if (letter.group === null) await requireStorable(tx, text);
  const encoded = await encodeFresh(encoder, event, letter.sourceTopic);
  if (!encoded.ok) {
    const { code, message, path } = encoded.refusal;
    throw new FerryError(code, message, { details: { path: `/payload${path ?? ''}` } });
  }
  await retry(tx, actor, letter, reason, { text, value: encoded.value });
  const { eventId } = letter;
  await recordOperation(tx, actor, { action: 'dead-letter.edit', subject: `dead-letter/${id}`, eventId, reason });
}

/** Decides that the letter will never be taken up. Rejects as `retryLetter` does. */
export async function discardLetter(tx: Queryable, actor: Actor, { id, reason }: Decision): Promise<void> {
  const letter = await lockLetter(tx, id);
  requireTransition(id, letter.state, 'discarded', 'discarded');
  await tx.query(
    `update ferry.dead_letter
     set state = 'discarded', state_at = clock_timestamp(), state_by = $2, state_reason = $3, told_at = null, told_lsn = null
     where id = $1`,
    [id, actor.principal, reason],
  );
  const { eventId } = letter;
  await recordOperation(tx, actor, { action: 'dead-letter.discard', subject: `dead-letter/${id}`, eventId, reason });
}

export interface BulkRetry {
  readonly filter: Omit<DeadLetterFilter, 'state'>;
  /** Most letters; the oldest first. */
  readonly limit: number;
  readonly reason: string;
}

/** Retries open letters by what they have in common; resolves with how many, and whether there are more. */
export async function retryLetters(
  tx: Queryable,
  actor: Actor,
  { filter, limit, reason }: BulkRetry,
): Promise<{ retried: number; more: boolean }> {
  requireReason(reason); // one that was edited before goes to its owner with it
  const values = filterValues({ ...filter, state: 'open' });
  const { rowCount } = await tx.query(
    `update ferry.dead_letter
     set state = 'replaying', state_at = clock_timestamp(), state_by = $9, state_reason = $10, retries = retries + 1,
         retry_id = gen_random_uuid(), told_at = null, told_lsn = null
     where id in (select id from ferry.dead_letter where ${FILTER} and event_id is not null
                  order by id limit $11 for update skip locked)`,
    [...values, actor.principal, reason, limit],
  );
  const retried = rowCount ?? 0;
  const { rows } = await tx.query<{ more: boolean }>(
    `select exists (select from ferry.dead_letter where ${FILTER} and event_id is not null) as more`,
    values,
  );
  const narrowed = Object.entries(filter).flatMap(([name, value]) => (value === null ? [] : [`${name}=${value}`]));
  const subject = `dead-letters?${narrowed.join('&')} (${retried})`;
  await recordOperation(tx, actor, { action: 'dead-letter.retry-many', subject, eventId: null, reason });
  return { retried, more: rows[0]?.more === true };
}

/** Notes that somebody has looked at a letter with the personal data in it. */
export async function auditDisclosure(tx: Queryable, actor: Actor, { id, reason }: Decision): Promise<void> {
  const { eventId } = await lockLetter(tx, id);
  await recordOperation(tx, actor, { action: 'dead-letter.read-raw', subject: `dead-letter/${id}`, eventId, reason });
}

async function lockLetter(tx: Queryable, id: string): Promise<LockedLetter> {
  const { rows } = await tx.query<LockedLetter>(
    `select id, consumer_group as "group", event_id as "eventId", event_type as type, state, source_topic as "sourceTopic",
            payload::text, schema_id as "schemaId", value
     from ferry.dead_letter where id = $1 for update`,
    [id],
  );
  const [letter] = rows;
  if (letter === undefined) throw new FerryError('NOT_FOUND', `there is no dead letter ${id}`);
  return letter;
}

function requireRetryable({ id, state, eventId }: LockedLetter, action: string): void {
  requireTransition(id, state, 'replaying', action);
  if (eventId !== null) return;
  throw new FerryError(
    'CONFLICT',
    `dead letter ${id} has no event id, so nobody could tell it from one that was done: discard it`,
  );
}

function requireReason(reason: string): void {
  if (reason.length <= MAX_REASON_CHARACTERS) return;
  throw new FerryError('INVALID_REQUEST', `the reason is longer than ${MAX_REASON_CHARACTERS} characters: shorten it`, {
    details: { path: '/reason' },
  });
}

/** What a relay publishes in an event's place is jsonb, which holds less than JSON text: asked here, while somebody can still change it. */
async function requireStorable(tx: Queryable, payload: string): Promise<void> {
  try {
    await tx.query('select $1::jsonb', [payload]);
  } catch (cause) {
    if (!isDataError(cause)) throw cause;
    throw new FerryError(
      'INVALID_REQUEST',
      'the payload holds what Postgres cannot store as jsonb, such as U+0000 in a text or half of a surrogate pair: take it out',
      { cause, details: { path: '/payload' } },
    );
  }
}

async function retry(
  tx: Queryable,
  actor: Actor,
  { id }: LockedLetter,
  reason: string,
  patch: Patch | null,
): Promise<void> {
  requireReason(reason);
  await tx.query(
    `update ferry.dead_letter
     set state = 'replaying', state_at = clock_timestamp(), state_by = $2, state_reason = $3, retries = retries + 1,
         retry_id = gen_random_uuid(), told_at = null, told_lsn = null,
         patched = coalesce($4, patched), patched_value = coalesce($5, patched_value)
     where id = $1`,
    [id, actor.principal, reason, patch?.text ?? null, patch?.value ?? null],
  );
}
