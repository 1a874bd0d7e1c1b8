/** The key that a call to an outside system carries, so that the system can tell a repetition from another call. */
import { v5 } from 'uuid';
import type { EventId } from '../kernel/event-id.ts';

/** Ours, made up once. A change would make every call in flight during an upgrade a new one. */
const NAMESPACE = 'ed5139b1-9245-434d-989b-1061ae8f63fe';

/**
 * A UUID that is the same at every try of an event by a consumer group, also after a crash, a rebalance or a replay from the dead letters,
 * and another for each `operation`, for handlers that make several calls. Name operations for what they do (`charge`), not by a count that
 * depends on the run. UUIDv5 (RFC 9562) over a JSON array, in which no two lists of names have the same text.
 */
export function idempotencyKey(group: string, eventId: EventId, operation: string): string {
  return v5(JSON.stringify([group, eventId, operation]), NAMESPACE);
}
