/**
 * `ferry/outbox`: write events in your own transactions.
 *
 *     import { emit, migrate } from 'ferry/outbox';
 *     await emit(client, { aggregateType: 'invoice', aggregateId, type: 'billing.InvoiceSent', payload });
 */
export type { EventPayloads, EventType } from '../events/generated/payloads.ts';
export { type ErrorCode, type ErrorDetails, FerryError } from '../kernel/errors.ts';
export type { EventId } from '../kernel/event-id.ts';
export { ExactNumber } from '../kernel/exact-json.ts';
export {
  type Emit,
  type EmitInput,
  type EmitTransaction,
  emit,
  emitOf,
  newEventId,
  type PayloadOf,
} from '../outbox/emit.ts';
export { currentPosition } from '../outbox/position.ts';
export { migrate } from './migrate.ts';
