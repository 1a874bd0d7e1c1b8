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

/**
 * Carries a command out in the inbox's transaction; it may be rolled back and called again, as every handler may. `work` is what the batch was
 * prepared with.
 */
export type CarryOut<P, W = void> = (command: Command<P>, tx: Queryable, work: W) => Promise<Answer | null>;

export type CarryOuts<W = void> = { readonly [T in EventType]?: CarryOut<EventPayloads[T], W> };

/** A command before it is carried out. */
export interface BatchedCommand<P> {
  readonly type: string;
  /** In whose order it stands. */
  readonly aggregateId: string;
  readonly payload: P;
  /** Null for a command that no saga sent. */
  readonly correlation: SagaCorrelation | null;
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
  /**
   * For commands that call an outside system: how many orders' commands are carried out side by side; those of one order come one after the
   * other. Such a command changes nothing but `work`, and that only at its end, so one that throws comes again without the others. Left
   * out: one command after the other, and one that throws fails the batch.
   */
  readonly sideBySide?: number;
  readonly settings?: Partial<ConsumerSettings>;
}

/**
 * How the groups of a flow consume. All their handlers take batches, whose statements cost the same for many orders as for one, so they gather
 * for long and are few at a time; nobody waits for what they have committed; and one command or answer that fails must not hold up those
 * behind it: an undo must get through, and a step that got no answer is asked for again.
 */
export const FLOW_SETTINGS = {
  onPoison: 'dead-letter',
  concurrency: 2,
  gatherMs: 200,
  commitIntervalMs: 500,
} as const satisfies Partial<ConsumerSettings>;

/** A batch holds the rows of all its orders, their customers and articles among them, for which others wait. */
const MAX_BATCH_EVENTS = 100;

/** Makes a participant. Each refuses what comes after its undo: a command that cannot be carried out is overtaken (FLOW_SETTINGS). */
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
    settings: { ...FLOW_SETTINGS, maxBatchEvents: MAX_BATCH_EVENTS, ...settings },
  };
}

/** The headers by which an answer finds its saga: those of the command, as they came. */
export function answerHeaders(correlation: SagaCorrelation | null): Record<string, string> {
  return correlation === null ? {} : correlationHeaders(correlation);
}

/** Carries the commands out, and writes the answers in one statement, in the order of the commands. */
function carryingOut<P, W>(events: EventWriter, options: ParticipantOptions<P, W>): HandleBatch<P> {
  const { name: aggregateType, prepare, finish, sideBySide } = options;
  const carryOuts = new Map(Object.entries(options.carryOuts) as ReadonlyArray<readonly [string, CarryOut<P, W>]>);
  return async (batch, tx, context) => {
    const commands = batch.map(commandOf);
    const work = (await prepare?.(commands, tx)) as W; // without `prepare` no carryOut has a `work`
    const carryOut = async ({ type, payload, correlation, ...command }: CommandEvent<P>) => {
      const traceparent = context.traceparent ?? command.traceparent;
      // What is written meanwhile, and the answer, continue the command's trace.
      const answer = await openTelemetry.with(contextFromTraceparent(traceparent), async () =>
        carryOuts.get(type)?.({ payload, correlation, context }, tx, work),
      );
      if (answer === null || answer === undefined) return null;
      const { aggregateId } = command;
      return { aggregateType, aggregateId, headers: answerHeaders(correlation), traceparent, ...answer };
    };
    const answers =
      sideBySide === undefined
        ? await inTurn(commands, carryOut)
        : await sideBySideByOrder(commands, sideBySide, carryOut, ({ event }, error) => context.putBack(event, error));
    await finish?.(work, tx);
    await events.writeMany(
      tx,
      answers.filter((answer) => answer !== null),
      'application',
    );
  };
}

type CommandEvent<P> = ReturnType<typeof commandOf<P>>;

function commandOf<P>(event: ConsumedEvent<P>) {
  const { id, type, aggregateId, value: payload, headers, traceparent } = event;
  if (payload === null || aggregateId === null) throw new NonRetryableError(`${type} ${id} says nothing`);
  return { event, type, aggregateId, payload, correlation: correlationOf(headers), traceparent };
}

async function inTurn<C, A>(commands: readonly C[], carryOut: (command: C) => Promise<A>): Promise<A[]> {
  const answers: A[] = [];
  for (const command of commands) answers.push(await carryOut(command));
  return answers;
}

/** Of an order whose command fails the later ones are not carried out; `onFailure` hears of that one. */
async function sideBySideByOrder<C extends { readonly aggregateId: string }, A>(
  commands: readonly C[],
  most: number,
  carryOut: (command: C) => Promise<A>,
  onFailure: (command: C, error: unknown) => void,
): Promise<Array<A | null>> {
  const answers = new Map<C, A>();
  const orders = Map.groupBy(commands, ({ aggregateId }) => aggregateId).values();
  const next = async () => {
    for (const own of orders) {
      // one iterator for all: each order is taken by one
      for (const command of own) {
        try {
          answers.set(command, await carryOut(command));
        } catch (error) {
          onFailure(command, error);
          break;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: most }, next));
  return commands.map((command) => answers.get(command) ?? null);
}
