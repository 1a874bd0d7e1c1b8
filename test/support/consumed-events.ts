/** Events as a handler gets them, made up. */
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import { eventId } from './relay-fixtures.ts';

/** The `version`th event of order o-1. */
export function consumedEvent<T = unknown>(version: number, changes: Partial<ConsumedEvent<T>> = {}): ConsumedEvent {
  return {
    id: eventId(version),
    type: 'test.Happened',
    aggregateType: 'order',
    aggregateId: 'o-1',
    aggregateVersion: BigInt(version),
    occurredAt: '2026-01-02T03:04:05.600000Z',
    recordedAt: '2026-01-02T03:04:05.678901Z',
    traceparent: null,
    headers: { ce_type: 'test.Happened' },
    value: { n: version },
    source: { topic: 'orders', partition: 1, offset: BigInt(version) },
    ...changes,
  };
}
