/**
 * The port through which events become Kafka values. Its implementation is `registry/`; the relay and the API only know this.
 */
import type { ErrorCode } from '../kernel/errors.ts';
import type { OutboxEvent } from './outbox-event.ts';

/** Why an event cannot be encoded. `message` names fields and types, never values. */
export interface EncodeRefusal {
  readonly code: ErrorCode;
  readonly message: string;
  /** JSON pointer of the field at fault, where there is one. */
  readonly path: string | null;
}

export type EncodeResult =
  /** `value` is null for a tombstone; `schemaId` and `subject` are null with it. */
  | {
      readonly ok: true;
      readonly value: Buffer | null;
      readonly schemaId: number | null;
      readonly subject: string | null;
    }
  | { readonly ok: false; readonly refusal: EncodeRefusal };

export type EncodableEvent = Pick<OutboxEvent, 'type' | 'payload' | 'schemaId'>;

export interface RefreshOptions {
  /**
   * Only an answer counts that was asked for since then, by performance.now(), and one is waited for even where many were in vain: somebody
   * says that it has changed.
   */
  readonly freshSinceMs?: number;
}

export interface EventEncoder {
  /** Encodes from memory, synchronously. A refusal is final only once `refresh` was awaited for this event. */
  encode(event: EncodableEvent, topic: string): EncodeResult;
  /**
   * Asks the registry for what encoding this event needs (its subject's latest version, or the schema id that it names). One request
   * at a time per subject or id, at most one a second each. Resolves true when something new was learnt, so that encoding again makes
   * sense. Rejects with REGISTRY_UNAVAILABLE when the registry did not answer: then nothing is known, and the event must wait.
   */
  refresh(event: EncodableEvent, topic: string, options?: RefreshOptions): Promise<boolean>;
}

/** Encodes, refreshing once before a refusal is believed. Rejects with REGISTRY_UNAVAILABLE as `refresh` does. */
export async function encodeFresh(
  encoder: EventEncoder,
  event: EncodableEvent,
  topic: string,
  options: RefreshOptions = {},
): Promise<EncodeResult> {
  const first = encoder.encode(event, topic);
  if (first.ok || !(await encoder.refresh(event, topic, options))) return first;
  return encoder.encode(event, topic);
}
