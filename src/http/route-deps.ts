/** What routes work with. */
import type { FastifyRequest } from 'fastify';
import type { DatabaseName } from '../config/databases.ts';
import type { Actor } from '../domain/audit.ts';
import type { UntilApplied } from '../inbox/position-gate.ts';
import type { EventWriter } from '../outbox/event-writer.ts';
import type { Pool } from '../postgres/connection.ts';
import { principalOf } from './authentication.ts';
import type { Idempotency } from './idempotency.ts';

/** For each projection that is read here, how a read waits for a position. */
export interface Projections {
  readonly ordersPerCustomer: UntilApplied;
}

export interface RouteDeps {
  readonly pool: Pool;
  readonly events: EventWriter;
  /** See HttpDeps. */
  readonly ownerOf: (aggregateType: string) => string | null;
  readonly idempotency: Idempotency;
  readonly projections: Projections;
  /** The server is to stop: what is held back is answered now. */
  readonly stopping: AbortSignal;
  /** The relay whose progress an event's status tells. */
  readonly relayName: string;
}

/** What routes of a database work with; the main one unless it is named. Throws INVALID_REQUEST if the participant has none of its own. */
export type DepsOfDatabase = (name?: DatabaseName) => RouteDeps;

/** Who stands in the audit row of what a request does. */
export function actorOf(request: FastifyRequest): Actor {
  return { principal: principalOf(request).id, requestId: request.id };
}
