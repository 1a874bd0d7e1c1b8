/**
 * What the participants of a saga have in common. A participant carries out commands that reach it as events and answers each with one event;
 * nothing else passes between it and the others. A step's command may come again, and an undo may overtake what it undoes: each participant's
 * rules are right for that.
 */
import { context as openTelemetry } from '@opentelemetry/api';
import type { EventPayloads, EventType } from '../events/generated/payloads.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { correlationHeaders, correlationOf, type SagaCorrelation } from '../events/saga-headers.ts';
import type { ConsumerSettings } from '../inbox/event-consumer.ts';
import { NonRetryableError } from '../inbox/failure.ts';
import type { AnyHandler, HandleBatch, HandleEvent, HandlerContext } from '../inbox/handler.ts';
import type { EventWriter } from '../outbox/event-writer.ts';
import type { Queryable } from '../postgres/connection.ts';
import { contextFromTraceparent } from '../telemetry/traces.ts';

/** What an EventConsumer needs to be a participant's. */
export interface Participant {
  readonly group: string;
  readonly topics: readonly string[];
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly settings: Partial<ConsumerSettings>;
}

export interface ParticipantParts {
  readonly events: EventWriter;
  readonly routes: TopicRoutes;
  /** TOPIC_PREFIX: two Ferrys on one cluster are two groups. */
  readonly topicPrefix: string;
}

/** A command as the participant's rules see it. */
export interface Command<P> {
  readonly payload: P;
  /** Null for a command that no saga sent. */
  readonly correlation: SagaCorrelation | null;
  readonly context: HandlerContext;
}

/** An answer: an event of the participant's, about the order that the command names. `null` stands for one that has been written already. */
export type Answer = { readonly [T in EventType]: { readonly type: T; readonly payload: EventPayloads[T] } }[EventType];

/** Carries a command out in the inbox's transaction; it may be rolled back and called again, as every handler may. */
export type CarryOut<P> = (command: Command<P>, tx: Queryable) => Promise<Answer | null>;

export type CarryOuts = { readonly [T in EventType]?: CarryOut<EventPayloads[T]> };

export interface ParticipantOptions<P> {
  /** Also the aggregatetype of its answers; its commands have `<name>-command`. Its group is `<topic prefix><name>`. */
  readonly name: string;
  readonly carryOuts: CarryOuts;
  /**
   * For commands of different orders that change the same rows: holds all that these commands are going to change, in one order of rows for
   * everybody, so that batches do not wait for each other in a circle. `payloads` are those of the participant's commands. Without it,
   * every command has its row to itself.
   */
  readonly holdRows?: (payloads: readonly P[], tx: Queryable) => Promise<void>;
  readonly settings?: Partial<ConsumerSettings>;
}

/**
 * Makes a participant. Commands that cannot be carried out do not hold up later ones of their order: an undo must get through, and each
 * participant refuses what comes after its undo.
 */
export function defineParticipant<P = never>(parts: ParticipantParts, options: ParticipantOptions<P>): Participant {
  const { name, carryOuts, holdRows, settings } = options;
  const listed = Object.entries(carryOuts) as ReadonlyArray<readonly [string, CarryOut<never>]>;
  const handles = new Map(listed.map(([type, carryOut]) => [type, answering(parts.events, name, carryOut)]));
  return {
    group: `${parts.topicPrefix}${name}`,
    topics: [parts.routes.topicOf(`${name}-command`)],
    handlers: holdRows === undefined ? handles : inBatches(handles, holdRows),
    settings: { onPoison: 'dead-letter', ...settings },
  };
}

/** The headers by which an answer finds its saga: those of the command, as they came. */
export function answerHeaders(correlation: SagaCorrelation | null): Record<string, string> {
  return correlation === null ? {} : correlationHeaders(correlation);
}

/** One handler for all types, so that a batch of them is one run, whatever its mixture. */
function inBatches<P>(
  handles: ReadonlyMap<string, HandleEvent<never>>,
  holdRows: (payloads: readonly P[], tx: Queryable) => Promise<void>,
): Map<string, AnyHandler> {
  const handleBatch: HandleBatch<never> = async (events, tx, context) => {
    const payloads: ReadonlyArray<P | null> = events.map(({ value }) => value);
    await holdRows(
      payloads.filter((payload) => payload !== null),
      tx,
    );
    for (const event of events) await handles.get(event.type)?.(event, tx, context);
  };
  const handler: AnyHandler = { handleBatch };
  return new Map([...handles.keys()].map((type) => [type, handler]));
}

function answering<P>(events: EventWriter, aggregateType: string, carryOut: CarryOut<P>): HandleEvent<P | null> {
  return async (event, tx, context) => {
    const { aggregateId, value: payload } = event;
    if (payload === null || aggregateId === null) throw new NonRetryableError(`${event.type} ${event.id} says nothing`);
    const correlation = correlationOf(event.headers);
    // The answer continues the command's trace.
    await openTelemetry.with(contextFromTraceparent(context.traceparent ?? event.traceparent), async () => {
      const answer = await carryOut({ payload, correlation, context }, tx);
      if (answer === null) return;
      await events.write(
        tx,
        { aggregateType, aggregateId, headers: answerHeaders(correlation), ...answer },
        'application',
      );
    });
  };
}
