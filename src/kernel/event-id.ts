/** Event ids are UUIDv7 (RFC 9562): their first 48 bits are milliseconds since the epoch, by which the outbox is partitioned. */
export type EventId = string & { readonly __brand: 'EventId' };

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export function isEventId(text: string): text is EventId {
  return UUID_V7.test(text);
}

/** Milliseconds since the epoch at which the id was made, by its maker's clock. */
export function eventIdTimeMs(id: EventId): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
