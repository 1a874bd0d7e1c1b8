/**
 * What the participants of a saga have in common. A participant carries out commands that reach it as events and answers each with one event;
 * nothing else passes between it and the others. A step's command may come again, and an undo may overtake what it undoes: each participant's
 * rules are right for that.
 */
import { context as openTelemetry } from '@opentelemetry/api';
import type { EventPayloads, EventType } from '../events/generated/payloads.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { correlationHeaders, correlationOf, type SagaCorrelation } from '../events/saga-headers.ts';
import type { ConsumedEvent } from '../inbox/consumed-event.ts';
import type { ConsumerSettings } from '../inbox/event-consumer.ts';
import { NonRetryableError } from '../inbox/failure.ts';
import type { AnyHandler, HandleBatch, HandlerContext } from '../inbox/handler.ts';
import type { EventWriter, TracedEvent } from '../outbox/event-writer.ts';
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

/**
 * Carries a command out in the inbox's transaction; it may be rolled back and called again, as every handler may. `work` is what the batch was
 * prepared with.
 */
export type CarryOut<P, W = void> = (command: Command<P>, tx: Queryable, work: W) => Promise<Answer | null>;

export type CarryOuts<W = void> = { readonly [T in EventType]?: CarryOut<EventPayloads[T], W> };

/** A command before it is carried out. */
export interface BatchedCommand<P> {
  readonly type: string;
  readonly payload: P;
}

/** `P`: payloads of the participant's commands; `W`: what the commands of a batch work on together, if they do. */
export interface ParticipantOptions<P, W> {
  /** Also the aggregatetype of its answers; its commands have `<name>-command`. Its group is `<topic prefix><name>`. */
  readonly name: string;
  readonly carryOuts: CarryOuts<W>;
  /**
   * Comes before the commands of a batch. For commands of different orders that change the same rows: holds all that these commands are going
   * to change, in one order of rows for everybody, so that batches do not wait for each other in a circle. Without it, every command has its
   * rows to itself.
   */
  readonly prepare?: (commands: ReadonlyArray<BatchedCommand<P>>, tx: Queryable) => Promise<W>;
  /** Comes behind the commands of a batch: writes what they did to `work`. */
  readonly finish?: (work: W, tx: Queryable) => Promise<void>;
  readonly settings?: Partial<ConsumerSettings>;
}

/**
 * Makes a participant. Commands that cannot be carried out do not hold up later ones of their order: an undo must get through, and each
 * participant refuses what comes after its undo.
 */
export function defineParticipant<P = never, W = void>(
  parts: ParticipantParts,
  options: ParticipantOptions<P, W>,
): Participant {
  const { name, settings } = options;
  // One handler for all types, so that a batch of them is one run, whatever its mixture.
  const handler: AnyHandler = { handleBatch: carryingOut(parts.events, options) };
  return {
    group: `${parts.topicPrefix}${name}`,
    topics: [parts.routes.topicOf(`${name}-command`)],
    handlers: new Map(Object.keys(options.carryOuts).map((type) => [type, handler])),
    settings: { onPoison: 'dead-letter', ...settings },
  };
}

/** The headers by which an answer finds its saga: those of the command, as they came. */
export function answerHeaders(correlation: SagaCorrelation | null): Record<string, string> {
  return correlation === null ? {} : correlationHeaders(correlation);
}

/** Carries out one command after the other, and writes the answers in one statement. */
function carryingOut<P, W>(events: EventWriter, options: ParticipantOptions<P, W>): HandleBatch<P> {
  const { name: aggregateType, prepare, finish } = options;
  const carryOuts = new Map(Object.entries(options.carryOuts) as ReadonlyArray<readonly [string, CarryOut<P, W>]>);
  return async (batch, tx, context) => {
    const commands = batch.map(commandOf);
    const work = (await prepare?.(commands, tx)) as W; // without `prepare` no carryOut has a `work`
    const answers: TracedEvent[] = [];
    for (const { type, aggregateId, payload, correlation, ...command } of commands) {
      const traceparent = context.traceparent ?? command.traceparent;
      // What is written meanwhile, and the answer, continue the command's trace.
      const answer = await openTelemetry.with(contextFromTraceparent(traceparent), async () =>
        carryOuts.get(type)?.({ payload, correlation, context }, tx, work),
      );
      if (answer === null || answer === undefined) continue;
      answers.push({ aggregateType, aggregateId, headers: answerHeaders(correlation), traceparent, ...answer });
    }
    await finish?.(work, tx);
    await events.writeMany(tx, answers, 'application');
  };
}

function commandOf<P>({ id, type, aggregateId, value: payload, headers, traceparent }: ConsumedEvent<P>) {
  if (payload === null || aggregateId === null) throw new NonRetryableError(`${type} ${id} says nothing`);
  return { type, aggregateId, payload, correlation: correlationOf(headers), traceparent };
}
