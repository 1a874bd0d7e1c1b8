/**
 * `ferry/inbox`: consume events so that each has its effect once, whatever Kafka delivers again.
 *
 *     import { consume } from 'ferry/inbox';
 *     const consumer = consume({ group, topics, handlers: { 'billing.InvoiceSent': async (event, tx) => { … } } });
 */
export type { EventPayloads, EventType } from '../events/generated/payloads.ts';
export { type ConsumeOptions, consume, type RunningConsumer } from '../inbox/consume.ts';
export type { ConsumedEvent, RecordSource } from '../inbox/consumed-event.ts';
export type { ConsumerSettings } from '../inbox/event-consumer.ts';
export { NonRetryableError } from '../inbox/failure.ts';
export type { HandleBatch, HandleEvent, Handler, HandlerContext, Handlers } from '../inbox/handler.ts';
export { idempotencyKey } from '../inbox/idempotency-key.ts';
export { applyInSequence, type SequencedEvent, type SequenceResult } from '../inbox/in-sequence.ts';
export type { WaitResult } from '../inbox/position-gate.ts';
export { openReadGate, type ReadGate, type ReadGateOptions } from '../inbox/read-gate.ts';
export {
  type Columns,
  type ColumnValue,
  type LatestRow,
  type LatestTable,
  upsertLatest,
  upsertLatestMany,
} from '../inbox/upsert-latest.ts';
export {
  compareVectors,
  formatVector,
  incremented,
  joinVectors,
  parseVector,
  reconcile,
  type VectorOrder,
  type Versioned,
  type VersionVector,
  versionVectorOf,
} from '../inbox/version-vector.ts';
export { type ErrorCode, type ErrorDetails, FerryError } from '../kernel/errors.ts';
export type { EventId } from '../kernel/event-id.ts';
export { ExactNumber } from '../kernel/exact-json.ts';
export type { Queryable } from '../postgres/connection.ts';
export { migrate } from './migrate.ts';
