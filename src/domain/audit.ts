/**
 * Who did what: one append-only row in the transaction of each write, which becomes a link of the audit's chain (src/audit/). What operators
 * do is linked in the same transaction, one after the other; what applications do within seconds, so that they never wait for each other.
 */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

/** Who asks, and with which request. */
export interface Actor {
  /** Id of the API key, or `cli:<user>`. */
  readonly principal: string;
  readonly requestId: string | null;
}

/** The role ops, for what it does by itself. */
export const OPS: Actor = { principal: 'ferry:ops', requestId: null };

export interface AuditEntry {
  /** What was done, such as `order.place`. */
  readonly action: string;
  /** To what, such as `order/<id>`. */
  readonly subject: string;
  /** The event that tells of it, if one does. */
  readonly eventId: EventId | null;
  /** Why, in the words of an operator; null for what applications do. */
  readonly reason?: string;
}

/**
 * Records what an operator does, and links it. Others who do so wait until the caller's transaction (READ COMMITTED) ends: call it last.
 */
export async function recordOperation(tx: Queryable, actor: Actor, entry: AuditEntry): Promise<void> {
  const { action, subject, eventId, reason = null } = entry;
  await tx.query('select ferry.audit_operation($1, $2, $3, $4, $5, $6)', [
    ...[actor.principal, action, subject, eventId, actor.requestId, reason],
  ]);
}

/** Records what an application does. */
export async function recordAudit(tx: Queryable, actor: Actor, entry: AuditEntry): Promise<void> {
  await recordAudits(tx, [{ ...entry, actor }]);
}

/** As `recordAudit`, for many at once. */
export async function recordAudits(
  tx: Queryable,
  entries: ReadonlyArray<AuditEntry & { readonly actor: Actor }>,
): Promise<void> {
  if (entries.length === 0) return;
  await tx.query(
    `insert into ferry.audit (principal, action, subject, event_id, request_id, reason)
     select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[])`,
    [
      entries.map(({ actor }) => actor.principal),
      entries.map(({ action }) => action),
      entries.map(({ subject }) => subject),
      entries.map(({ eventId }) => eventId),
      entries.map(({ actor }) => actor.requestId),
      entries.map(({ reason }) => reason ?? null),
    ],
  );
}
