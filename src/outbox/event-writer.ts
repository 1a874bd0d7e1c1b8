/**
 * Writing events that are known to be publishable: each is encoded against its registered schema before it is inserted, in the same
 * transaction, so that a mistake is the writer's answer and not a dead letter later. The API's way; plain `emit` does without.
 */
import { type EventEncoder, encodeFresh } from '../events/encoder.ts';
import type { Payload } from '../events/outbox-event.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import { type EmitInput, INSERT_EVENT, INSERT_EVENTS, insertValues, newEventId, payloadOf } from './emit.ts';

/** Who made the payload, and so who is to blame if it does not fit: the client who sent it, or our own mapping. */
export type PayloadOrigin = 'client' | 'application';

export interface WrittenEvent {
  readonly id: EventId;
  /** One more than the aggregate's event before. */
  readonly aggregateVersion: bigint;
}

export interface EventWriter {
  /**
   * Validates the event and inserts it with the aggregate's next version. Throws, with nothing inserted: the refusal's own code
   * (SCHEMA_MISMATCH with the field's path, SCHEMA_UNKNOWN, …) if the client made the payload, EVENT_SCHEMA_MISMATCH if we did,
   * REGISTRY_UNAVAILABLE if the schema is not in memory and the registry does not answer, TOPIC_INVALID.
   */
  write(tx: Queryable, event: ApiEvent, origin: PayloadOrigin): Promise<WrittenEvent>;
  /** As `write`, for many in one statement and in their order, each in a trace of its own. Resolves with as many. */
  writeMany(tx: Queryable, events: readonly TracedEvent[], origin: PayloadOrigin): Promise<BatchWritten[]>;
}

/** `aggregateVersion: null` for one that is not counted among its aggregate's. */
export type BatchableEvent = ApiEvent & { readonly aggregateVersion?: null };

/** With the trace that the event continues; left out: the active one. */
export type TracedEvent = BatchableEvent & { readonly traceparent?: string | null };

export interface BatchWritten {
  readonly id: EventId;
  /** Null if it is not counted. */
  readonly aggregateVersion: bigint | null;
}

/** An event whose version the database counts. */
export type ApiEvent<T extends string = string> = Omit<EmitInput<T>, 'aggregateVersion'>;

export function createEventWriter(encoder: EventEncoder, routes: TopicRoutes): EventWriter {
  /** The payload as the outbox keeps it. Throws what it is refused with. */
  async function checked(event: ApiEvent, origin: PayloadOrigin): Promise<Payload> {
    const payload = payloadOf(event.payload);
    const encodable = { type: event.type, payload, schemaId: event.schemaId ?? null };
    const encoded = await encodeFresh(encoder, encodable, routes.topicOf(event.aggregateType));
    if (encoded.ok) return payload;
    const { code, message, path } = encoded.refusal;
    throw new FerryError(origin === 'client' ? code : 'EVENT_SCHEMA_MISMATCH', `${event.type}: ${message}`, {
      details: { type: event.type, refusal: code, path },
    });
  }

  return {
    async write(tx, event, origin) {
      const payload = await checked(event, origin);
      const id = event.id ?? newEventId();
      const { rows } = await tx.query<{ aggregateversion: bigint }>(
        `${INSERT_EVENT} returning aggregateversion`,
        insertValues(id, { ...event, aggregateVersion: 'next' }, payload),
      );
      const version = rows[0]?.aggregateversion;
      if (version === undefined) throw new Error(`the outbox gave no version to event ${id}`);
      return { id, aggregateVersion: BigInt(version) };
    },

    async writeMany(tx, events, origin) {
      if (events.length === 0) return [];
      const ids: EventId[] = [];
      const values: unknown[][] = [];
      for (const { traceparent, ...event } of events) {
        const payload = await checked(event, origin);
        const id = event.id ?? newEventId();
        const aggregateVersion = event.aggregateVersion === null ? null : 'next';
        ids.push(id);
        values.push(insertValues(id, { ...event, aggregateVersion }, payload, traceparent));
      }
      const { rows } = await tx.query<{ id: string; aggregateversion: bigint | null }>(
        `${INSERT_EVENTS} returning id, aggregateversion`,
        columnsOf(values),
      );
      const versions = new Map(rows.map((row) => [row.id, row.aggregateversion]));
      return ids.map((id) => ({ id, aggregateVersion: versions.get(id) ?? null }));
    },
  };
}

function columnsOf(rows: ReadonlyArray<readonly unknown[]>): unknown[][] {
  return Array.from({ length: rows[0]?.length ?? 0 }, (_, column) => rows.map((row) => row[column]));
}
