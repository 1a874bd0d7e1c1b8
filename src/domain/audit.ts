/** Who did what: one append-only row in the transaction of each write. */
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';

/** Who asks, and with which request. */
export interface Actor {
  /** Id of the API key. */
  readonly principal: string;
  readonly requestId: string;
}

export interface AuditEntry {
  /** What was done, such as `order.place`. */
  readonly action: string;
  /** To what, such as `order/<id>`. */
  readonly subject: string;
  /** The event that tells of it, if one does. */
  readonly eventId: EventId | null;
}

export async function recordAudit(tx: Queryable, actor: Actor, entry: AuditEntry): Promise<void> {
  await tx.query(
    'insert into ferry.audit (principal, action, subject, event_id, request_id) values ($1, $2, $3, $4, $5)',
    [actor.principal, entry.action, entry.subject, entry.eventId, actor.requestId],
  );
}
