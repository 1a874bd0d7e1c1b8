/** What a service writes to consume events: handlers by event type, and what they are handed. */
import type { EventPayloads } from '../events/generated/payloads.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { ConsumedEvent, ReaderOf } from './consumed-event.ts';

/** What a handler knows of the try that it is part of. */
export interface HandlerContext {
  readonly group: string;
  /** 1 for the first try of an event, and for every batch; counted in memory, so a crash begins again at 1. */
  readonly attempt: number;
  /** Fires when the handler's time is over or the consumer gives up: its transaction is gone then. */
  readonly signal: AbortSignal;
  /** W3C trace context of the span of this event (null in a batch), for calls and events that continue the trace. */
  readonly traceparent: string | null;
  /**
   * For a call to an outside system that takes an idempotency key: a UUID that is the same at every try of this event by this group, and
   * another for each `operation`.
   */
  idempotencyKey(event: ConsumedEvent, operation: string): string;
  /**
   * For a batch: this event failed with `error`, and the others are committed without it. Nothing may have been written for it, nor for the
   * events of its key behind it, which come again with it.
   */
  putBack(event: ConsumedEvent, error: unknown): void;
}

/**
 * Gives one event its effect, through `tx` and nothing else: the transaction may be rolled back and the handler called again. Resolves when
 * it is done. What it throws decides what follows (see failure.ts).
 */
export type HandleEvent<T = unknown> = (
  event: ConsumedEvent<T>,
  tx: Queryable,
  context: HandlerContext,
) => Promise<void>;

/** As HandleEvent, for events that follow one another: of several keys, those of one key in their order. */
export type HandleBatch<T = unknown> = (
  events: ReadonlyArray<ConsumedEvent<T>>,
  tx: Queryable,
  context: HandlerContext,
) => Promise<void>;

interface WithReader {
  /** Text of the Avro schema in whose form the handler wants the value; left out: the writer's. Avro's rules of resolution. */
  readonly readerSchema?: string;
}

/**
 * One event at a time, or batches. Neighbouring events whose types have the same handler object share its batches.
 */
export type Handler<T = unknown> =
  | HandleEvent<T>
  | (WithReader & { readonly handle: HandleEvent<T> })
  | (WithReader & { readonly handleBatch: HandleBatch<T> });

/**
 * Handlers by the full name of the event's record; events of other types are passed over. `M` maps type names to their values' types: that
 * of Ferry's own schemas by default, a service's own otherwise. A tombstone's value is null.
 */
export type Handlers<M extends object = EventPayloads> = { readonly [T in keyof M]?: Handler<M[T] | null> };

/** A handler as the machinery sees it: who registers one for a type answers for the type of its values. */
export type AnyHandler = Handler<never>;

export function handlerMap<M extends object = EventPayloads>(handlers: Handlers<M>): Map<string, AnyHandler> {
  const entries: Array<[string, AnyHandler | undefined]> = Object.entries(handlers);
  return new Map(entries.flatMap(([type, handler]) => (handler === undefined ? [] : [[type, handler]])));
}

/** The form in which a group wants the values of a type; undefined for a type that no handler wants. */
export function readerOf(handlers: ReadonlyMap<string, AnyHandler>): ReaderOf {
  return (type) => {
    const handler = handlers.get(type);
    if (handler === undefined) return undefined;
    return typeof handler === 'function' || handler.readerSchema === undefined
      ? {}
      : { readerSchema: handler.readerSchema };
  };
}
