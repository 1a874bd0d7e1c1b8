/**
 * What a replay tells the relay through the WAL, one message a record: the whole event, so that the relay needs neither the outbox nor a
 * connection to publish it, and what makes the record tell that it is a replay's.
 */
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { EventId } from '../kernel/event-id.ts';
import type { OutboxEvent, Payload } from './outbox-event.ts';

export interface ReplayMessage {
  /** Id of the replay, a UUIDv7. */
  readonly replay: string;
  readonly reason: string;
  /** Side topic; null: where the event was. */
  readonly topic: string | null;
  /** Counts the replay's records from 1, without a gap. */
  readonly ordinal: number;
  /** The event that this one repeats under an id of its own; null if it keeps the id. */
  readonly of: EventId | null;
  readonly event: OutboxEvent;
}

const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' });
const Digits = Type.String({ pattern: '^\\d{1,19}$' });

const Body = Type.Object({
  v: Type.Literal(1),
  replay: Uuid,
  reason: Type.String(),
  topic: Nullable(Type.String()),
  ordinal: Type.Integer({ minimum: 1 }),
  of: Nullable(Uuid),
  event: Type.Object({
    id: Uuid,
    aggregateType: Type.String(),
    aggregateId: Type.String(),
    aggregateVersion: Nullable(Digits),
    type: Type.String(),
    payload: Type.Union([
      Type.Object({ kind: Type.Literal('json'), text: Type.String() }),
      Type.Object({ kind: Type.Literal('avro'), base64: Type.String() }),
      Type.Object({ kind: Type.Literal('tombstone') }),
    ]),
    schemaId: Nullable(Type.Integer()),
    headers: Type.Record(Type.String(), Type.String()),
    traceparent: Nullable(Type.String()),
    occurredAt: Type.String(),
    recordedAt: Type.String(),
    seq: Digits,
  }),
});
type Body = Static<typeof Body>;
/** Compiled: a relay may get tens of thousands a second. */
const bodies = Compile(Body);

/** The body of the control message (control-message.ts seals it). */
export function encodeReplayMessage({ event, ...rest }: ReplayMessage): string {
  const { aggregateVersion, payload, headers, seq } = event;
  const body: Body = {
    v: 1,
    ...rest,
    event: {
      ...event,
      aggregateVersion: aggregateVersion === null ? null : String(aggregateVersion),
      payload: payload.kind === 'avro' ? { kind: 'avro', base64: payload.bytes.toString('base64') } : payload,
      headers: { ...headers },
      seq: String(seq),
    },
  };
  return JSON.stringify(body);
}

/** Null for a body that is none of this version. */
export function decodeReplayMessage(body: string): ReplayMessage | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return null;
  }
  if (!bodies.Check(parsed)) return null;
  const { replay, reason, topic, ordinal, of, event } = parsed;
  const { aggregateVersion } = event;
  return {
    ...{ replay, reason, topic, ordinal },
    of: of as EventId | null,
    event: {
      ...event,
      id: event.id as EventId,
      aggregateVersion: aggregateVersion === null ? null : BigInt(aggregateVersion),
      payload: payloadOf(event.payload),
      seq: BigInt(event.seq),
    },
  };
}

function payloadOf(payload: Body['event']['payload']): Payload {
  return payload.kind === 'avro' ? { kind: 'avro', bytes: Buffer.from(payload.base64, 'base64') } : payload;
}
