/** What routes work with. */
import type { FastifyRequest } from 'fastify';
import type { Actor } from '../domain/audit.ts';
import type { EventWriter } from '../outbox/event-writer.ts';
import type { Pool } from '../postgres/connection.ts';
import { principalOf } from './authentication.ts';
import type { Idempotency } from './idempotency.ts';

export interface RouteDeps {
  readonly pool: Pool;
  readonly events: EventWriter;
  readonly idempotency: Idempotency;
  /** The relay whose progress an event's status tells. */
  readonly relayName: string;
}

/** Who stands in the audit row of what a request does. */
export function actorOf(request: FastifyRequest): Actor {
  return { principal: principalOf(request).id, requestId: request.id };
}
