/** The audit as people see it: who did what, when and why, newest first, each with its place in the chain. */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

export interface AuditFacts {
  readonly id: bigint;
  readonly at: string;
  /** Id of an API key, `cli:<user>`, or `saga:<id>`. */
  readonly principal: string;
  readonly action: string;
  readonly subject: string;
  readonly eventId: EventId | null;
  readonly requestId: string | null;
  readonly reason: string | null;
  /** In the chain; null: not linked yet. */
  readonly position: bigint | null;
}

export interface AuditFilter {
  readonly principal: string | null;
  /** An action, or a beginning of one that ends in a full stop: `saga.` finds them all. */
  readonly action: string | null;
  readonly subject: string | null;
  readonly eventId: string | null;
  /** RFC 3339, inclusive. */
  readonly after: string | null;
  /** RFC 3339, exclusive. */
  readonly before: string | null;
  /** Only rows with a smaller id, for the page after. */
  readonly beforeId: bigint | null;
  readonly limit: number;
}

export async function listAudit(db: Queryable, filter: AuditFilter): Promise<AuditFacts[]> {
  const { principal, action, subject, eventId, after, before, beforeId, limit } = filter;
  const { rows } = await db.query<AuditFacts>(
    `select id, at, principal, action, subject, event_id as "eventId", request_id as "requestId", reason, position
     from ferry.audit left join ferry.audit_link on audit_id = audit.id
     where ($1::text is null or principal = $1)
       and ($2::text is null or action = $2 or (right($2, 1) = '.' and starts_with(action, $2)))
       and ($3::text is null or subject = $3) and ($4::uuid is null or event_id = $4)
       and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
       and ($7::bigint is null or id < $7)
     order by id desc limit $8`,
    [principal, action, subject, eventId, after, before, beforeId === null ? null : String(beforeId), limit],
  );
  return rows;
}
