/**
 * What a replay tells the relay through the WAL, one message a record: the whole event, so that the relay needs neither the outbox nor a
 * connection to publish it, and what makes the record tell that it is a replay's.
 */
import * as v from 'valibot';
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

const Uuid = v.pipe(v.string(), v.regex(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/));
const Digits = v.pipe(v.string(), v.regex(/^\d{1,19}$/));

const Body = v.object({
  v: v.literal(1),
  replay: Uuid,
  reason: v.string(),
  topic: v.nullable(v.string()),
  ordinal: v.pipe(v.number(), v.integer(), v.minValue(1)),
  of: v.nullable(Uuid),
  event: v.object({
    id: Uuid,
    aggregateType: v.string(),
    aggregateId: v.string(),
    aggregateVersion: v.nullable(Digits),
    type: v.string(),
    payload: v.union([
      v.object({ kind: v.literal('json'), text: v.string() }),
      v.object({ kind: v.literal('avro'), base64: v.string() }),
      v.object({ kind: v.literal('tombstone') }),
    ]),
    schemaId: v.nullable(v.pipe(v.number(), v.integer())),
    headers: v.record(v.string(), v.string()),
    traceparent: v.nullable(v.string()),
    occurredAt: v.string(),
    recordedAt: v.string(),
    seq: Digits,
  }),
});
type Body = v.InferOutput<typeof Body>;

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
  if (!v.is(Body, parsed)) return null;
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
