/** An event as a replay publishes it: as it was, or in the form that another schema gives it. */
import { type EventEncoder, encodeFresh } from '../events/encoder.ts';
import type { OutboxEvent } from '../events/outbox-event.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import type { ResolvingDecoder } from '../registry/decoder.ts';
import type { UnfitRow } from './store.ts';

export interface Codec {
  readonly encoder: EventEncoder;
  readonly decoder: ResolvingDecoder;
  readonly routes: TopicRoutes;
}

/**
 * The event with the schema pinned, if one is given; bytes of another schema become JSON first. A tombstone has none. Rejects with the
 * decoder's refusals where the bytes cannot be read, REGISTRY_UNAVAILABLE among them.
 */
export async function withSchema(
  event: OutboxEvent,
  schemaId: number | null,
  { decoder }: Codec,
): Promise<OutboxEvent> {
  const { payload } = event;
  if (schemaId === null || payload.kind === 'tombstone') return event;
  if (payload.kind === 'json') return { ...event, schemaId };
  const { value, schemaId: written } = await decoder.decode(payload.bytes);
  if (written === schemaId) return { ...event, schemaId };
  return { ...event, schemaId, payload: { kind: 'json', text: stringifyExactJson(value) } };
}

/** Why the event cannot be published so; null if it can. Rejects only with what may pass (REGISTRY_UNAVAILABLE). */
export async function whyUnfit(event: OutboxEvent, schemaId: number | null, codec: Codec): Promise<UnfitRow | null> {
  try {
    // Side topic or not: the subject is that of the topic where the event was.
    const topic = codec.routes.topicOf(event.aggregateType);
    const encoded = await encodeFresh(codec.encoder, await withSchema(event, schemaId, codec), topic);
    return encoded.ok ? null : { eventId: event.id, code: encoded.refusal.code, message: encoded.refusal.message };
  } catch (error) {
    if (!(error instanceof FerryError) || error.retryable) throw error;
    return { eventId: event.id, code: error.code, message: error.message };
  }
}
