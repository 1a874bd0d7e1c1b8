/** Participants without Kafka: their real handlers in a real transaction, on commands that a saga could have sent. */
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import type { Participant, ParticipantParts } from '../../src/domain/participant.ts';
import type { EventPayloads, EventType } from '../../src/events/generated/payloads.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import { correlationHeaders, type SagaCorrelation } from '../../src/events/saga-headers.ts';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { HandlerContext } from '../../src/inbox/handler.ts';
import { newEventId } from '../../src/outbox/emit.ts';
import { createEventWriter } from '../../src/outbox/event-writer.ts';
import { createPool, type Pool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createEncoder } from '../../src/registry/encoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import type { TestStack } from './stack.ts';

export interface SentCommand<T extends EventType = EventType> {
  readonly type: T;
  readonly payload: EventPayloads[T];
  /** Null: no saga sent it. Left out: a saga of its own. */
  readonly correlation?: SagaCorrelation | null;
  /** Which try of the handler it is. */
  readonly attempt?: number;
}

/** What stands in the outbox for an answer. */
export interface WrittenAnswer {
  readonly type: string;
  readonly aggregatetype: string;
  readonly aggregateid: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface ParticipantLab {
  readonly pool: Pool;
  readonly parts: ParticipantParts;
  /** Handles the command in a transaction of its own; resolves with what that wrote into the outbox. Rejects as the handler does. */
  carryOut<T extends EventType>(participant: Participant, command: SentCommand<T>): Promise<WrittenAnswer[]>;
}

/** Registers the schemas. Ends with the test file. */
export async function participantLab({ config }: TestStack, connections = 20): Promise<ParticipantLab> {
  await pushAllSchemas(config);
  const pool = createPool(config, 'ferry-test', { max: connections });
  after(() => pool.end());
  const routes = topicRoutes(config);
  const store = new SchemaStore(createRegistryClient({ url: config.SCHEMA_REGISTRY_URL ?? '' }));
  const encoder = createEncoder({ store, naming: config.SUBJECT_NAMING, maxEventBytes: config.MAX_EVENT_BYTES });
  const parts = { routes, topicPrefix: config.TOPIC_PREFIX, events: createEventWriter(encoder, routes) };
  return {
    pool,
    parts,
    carryOut: (participant, command) =>
      transaction(pool, async (tx) => {
        await handle(participant, consumed(command), tx, command.attempt ?? 1);
        const { rows } = await tx.query<WrittenAnswer & Record<string, unknown>>(
          `select type, aggregatetype, aggregateid, headers, payload from ferry.outbox
           where tx = pg_current_xact_id() order by seq`,
        );
        return rows;
      }),
  };
}

/** Hands an event to the participant's handler, as its consumer would. */
export function handle(participant: Participant, event: ConsumedEvent, tx: Queryable, attempt = 1): Promise<void> {
  return handleBatch(participant, [event], tx, attempt);
}

/** Events of types that the participant handles alike. */
export async function handleBatch(
  participant: Participant,
  events: readonly ConsumedEvent[],
  tx: Queryable,
  attempt = 1,
  onPutBack: HandlerContext['putBack'] = (_event, error) => {
    throw error;
  },
): Promise<void> {
  const type = events[0]?.type ?? '';
  const handler = participant.handlers.get(type);
  if (handler === undefined) throw new Error(`${participant.group} has no handler for ${type}`);
  const context: HandlerContext = {
    group: participant.group,
    attempt,
    signal: new AbortController().signal,
    traceparent: null,
    idempotencyKey: () => randomUUID(),
    putBack: onPutBack,
  };
  const typed = events as ReadonlyArray<ConsumedEvent<never>>;
  if (typeof handler === 'object' && 'handleBatch' in handler) return handler.handleBatch(typed, tx, context);
  const handleOne = typeof handler === 'function' ? handler : handler.handle;
  for (const event of typed) await handleOne(event, tx, context);
}

/** A saga's command; of one saga and step unless the test says otherwise. */
export function correlation(step: string, changes: Partial<SagaCorrelation> = {}): SagaCorrelation {
  return { sagaId: randomUUID(), step, purpose: 'do', attempt: 1, ...changes };
}

/** The command as its handler gets it. */
export function consumed({ type, payload, correlation: given }: SentCommand): ConsumedEvent {
  const id = newEventId();
  return {
    id,
    type,
    aggregateType: 'command',
    aggregateId: payload.orderId ?? '',
    aggregateVersion: null,
    occurredAt: null,
    recordedAt: new Date().toISOString(),
    traceparent: null,
    headers: given === null ? {} : correlationHeaders(given ?? correlation('step')),
    value: payload,
    source: { topic: 'commands', partition: 0, offset: 0n },
  };
}
