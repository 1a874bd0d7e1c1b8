/**
 * The outbox kit for TypeScript: `emit(tx, event)` writes one event in the caller's own transaction, over any driver that can run a
 * statement with numbered parameters. The event reaches Kafka if and only if that transaction commits.
 */
import { context } from '@opentelemetry/api';
import { v7 } from 'uuid';
import type { EventPayloads } from '../events/generated/payloads.ts';
import type { Payload } from '../events/outbox-event.ts';
import type { EventId } from '../kernel/event-id.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import { traceparentOf } from '../telemetry/traces.ts';

/**
 * The caller's transaction. A pg client is one as it is; others need a line: Knex `{ query: (text, values) =>
 * trx.raw(text.replace(/\$\d+/g, '?'), values) }` (each parameter stands once, in order), Prisma `{ query: (text, values) =>
 * tx.$executeRawUnsafe(text, ...values) }`, Drizzle through its session's client.
 */
export interface EmitTransaction {
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** The payload of an event type: the type generated from its schema, or anything for types that have none in `M`. */
export type PayloadOf<T extends string, M extends object = EventPayloads> = T extends keyof M ? M[T] : unknown;

/** `M` maps type names to their payloads' types. */
export interface EmitInput<T extends string = string, M extends object = EventPayloads> {
  /** Chooses the topic. */
  readonly aggregateType: string;
  /** The record's key: events of one aggregate keep their order. At most 512 bytes. */
  readonly aggregateId: string;
  /** `next` lets the database count, by one for each event of the aggregate; null or left out: not counted. */
  readonly aggregateVersion?: bigint | 'next' | null;
  /** Full name of the event's Avro record. */
  readonly type: T;
  /** Plain JSON (bigints allowed), or a Uint8Array in Confluent wire format, or null for a tombstone. */
  readonly payload: PayloadOf<T, M> | Uint8Array | null;
  /** Pins the writer schema; left out: the latest of the subject. */
  readonly schemaId?: number | null;
  readonly headers?: Readonly<Record<string, string>>;
  /** When it happened, RFC 3339; left out: now, by the database's clock. */
  readonly occurredAt?: string | null;
  /** A UUIDv7 of about now; left out: one is made. */
  readonly id?: EventId;
}

// Column by column what the database lets a writer set; the types are said so that null parameters have one.
const insertFrom = (given: string) => `
insert into ferry.outbox (id, aggregatetype, aggregateid, aggregateversion, type, payload, payload_bytes, tombstone,
                          schema_id, headers, traceparent, occurred_at)
select id, aggregatetype, aggregateid,
       case when counted then ferry.next_aggregate_version(aggregatetype, aggregateid) else aggregateversion end,
       type, payload, payload_bytes, tombstone, schema_id, headers, traceparent, coalesce(occurred_at, clock_timestamp())
from ${given}
  as given (id, aggregatetype, aggregateid, counted, aggregateversion, type, payload, payload_bytes, tombstone, schema_id,
            headers, traceparent, occurred_at)`;

export const INSERT_EVENT =
  insertFrom(`(values ($1::uuid, $2::text, $3::text, $4::boolean, $5::bigint, $6::text, $7::jsonb,
              $8::bytea, $9::boolean, $10::int, $11::jsonb, $12::text, $13::timestamptz))`);

/** As INSERT_EVENT, each parameter an array with an element for each event. */
export const INSERT_EVENTS =
  insertFrom(`unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::text[],
              $7::jsonb[], $8::bytea[], $9::boolean[], $10::int[], $11::jsonb[], $12::text[], $13::timestamptz[])`);

/**
 * Writes one event into the outbox; resolves to its id. The traceparent is that of the active span. Nothing is checked against the
 * schema here: the relay does, and an event that does not fit becomes a dead letter. Rejects as the driver does; the database's own
 * refusals have SQLSTATEs of class OX (docs/errors.md).
 */
export async function emit<const T extends string>(tx: EmitTransaction, event: EmitInput<T>): Promise<EventId> {
  const id = event.id ?? newEventId();
  await tx.query(INSERT_EVENT, insertValues(id, event, payloadOf(event.payload)));
  return id;
}

/** `emit` for a service's own event types, and for no others. */
export type Emit<M extends object> = <const T extends keyof M & string>(
  tx: EmitTransaction,
  event: EmitInput<T, M>,
) => Promise<EventId>;

/** `emit`, typed by a service's own event types: a type name → the type of its payload. */
export function emitOf<M extends object>(): Emit<M> {
  return emit as unknown as Emit<M>; // the same function, which looks at no type
}

export function newEventId(): EventId {
  return v7() as EventId;
}

/** The payload as the outbox keeps it. */
export function payloadOf(payload: unknown): Payload {
  if (payload === null) return { kind: 'tombstone' };
  if (payload instanceof Uint8Array) return { kind: 'avro', bytes: Buffer.from(payload) };
  return { kind: 'json', text: stringifyExactJson(payload) };
}

/** The parameters of INSERT_EVENT. */
export function insertValues(
  id: EventId,
  event: EmitInput,
  payload: Payload,
  traceparent: string | null = traceparentOf(context.active()),
): unknown[] {
  const version = event.aggregateVersion ?? null;
  return [
    id,
    event.aggregateType,
    event.aggregateId,
    version === 'next',
    version === 'next' ? null : version,
    event.type,
    payload.kind === 'json' ? payload.text : null,
    payload.kind === 'avro' ? payload.bytes : null,
    payload.kind === 'tombstone',
    event.schemaId ?? null,
    JSON.stringify(event.headers ?? {}),
    traceparent,
    event.occurredAt ?? null,
  ];
}
