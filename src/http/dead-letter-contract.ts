/** The shapes of the dead-letter routes. */
import { type Static, Type } from '@fastify/type-provider-typebox';
import { DEAD_LETTER_STATES } from '../deadletter/states.ts';
import { closed, orNull, Timestamp, text, Uuid, UuidV7, When } from './contract.ts';
import { NextCursor, PageQuery } from './cursor.ts';

const State = Type.Enum([...DEAD_LETTER_STATES]);

const KEY = 'As text; bytes that are no UTF-8 are hexadecimal behind 0x.';
export const Reason = text(500, 'Why: it stands in the dead letter and in ferry.audit.');

const summaryFields = {
  id: UuidV7,
  group: orNull(Type.String(), 'The consumer group that could not apply it; null: the relay could not publish it.'),
  eventId: orNull(Uuid),
  type: orNull(Type.String()),
  sourceTopic: Type.String({ description: 'Where it came from, or was to go to.' }),
  key: orNull(Type.String(), KEY),
  code: Type.String({ description: 'A code of docs/errors.md, a SQLSTATE, or a handler’s own.' }),
  errorMessage: Type.String(),
  blockedBy: orNull(Type.String(), 'The event that it waits behind, if it did not fail itself.'),
  state: State,
  firstFailedAt: Timestamp,
  failedAt: Timestamp,
  copies: Type.Integer({ minimum: 1, description: 'How often it is in the dead-letter topic.' }),
  retries: Type.Integer({ minimum: 0 }),
};
export const DeadLetterSummarySchema = Type.Object(summaryFields);
export const DeadLetterPageSchema = Type.Object({
  deadLetters: Type.Array(DeadLetterSummarySchema),
  nextCursor: NextCursor,
});
export const DeadLetterSchema = Type.Object({
  ...summaryFields,
  sourcePosition: Type.String({ description: 'Partition and offset there, or commit LSN and number in the WAL.' }),
  errorType: Type.String(),
  errorStack: orNull(Type.String()),
  retryCount: Type.Integer(),
  maxRetries: Type.Integer(),
  replayable: Type.Boolean({
    description: 'Whether the same bytes may succeed without an edit, a schema or a release.',
  }),
  originalRecord: Type.String({ description: 'value, or where the original is that was too large to be carried.' }),
  headers: Type.Record(Type.String(), Type.String(), { description: 'Those of the original.' }),
  payload: Type.Unknown({ description: 'Plain JSON; personal data reads [redacted] unless the key’s role is admin.' }),
  decoded: Type.Boolean({
    description: 'False: the value cannot be read as JSON or by its schema, and payload is null.',
  }),
  patched: Type.Unknown({ description: 'What an operator has made of the payload; null: nothing.' }),
  schemaId: orNull(Type.Integer()),
  topic: Type.String(),
  partition: Type.Integer(),
  offset: Type.String(),
  stateAt: Timestamp,
  stateBy: orNull(Type.String(), 'Who decided it.'),
  stateReason: orNull(Type.String()),
  toldAt: orNull(Timestamp, 'When its owner was told of the decision.'),
});
export const RawDeadLetterSchema = Type.Object({
  id: UuidV7,
  key: orNull(Type.String(), 'Base64.'),
  value: orNull(Type.String(), 'Base64.'),
  headers: Type.Record(Type.String(), Type.String()),
  payload: Type.Unknown(),
  decoded: Type.Boolean(),
});
export const DeadLetterCausesSchema = Type.Object({
  causes: Type.Array(
    Type.Object({
      group: orNull(Type.String()),
      sourceTopic: Type.String(),
      type: orNull(Type.String()),
      code: Type.String(),
      errorType: Type.String(),
      count: Type.Integer({ minimum: 1 }),
      firstFailedAt: Timestamp,
      lastFailedAt: Timestamp,
      example: UuidV7,
      exampleMessage: Type.String(),
    }),
  ),
});

const narrowing = {
  type: Type.Optional(text(255, 'Of the event.')),
  code: Type.Optional(text(64, 'Of the error.')),
  topic: Type.Optional(text(249, 'The source topic, or the dead-letter topic.')),
  key: Type.Optional(text(2_050, KEY)),
  group: Type.Optional(text(255, 'The consumer group whose they are.')),
  failedAfter: Type.Optional(When),
  failedBefore: Type.Optional(When),
};
export const DeadLetterCausesQuery = Type.Object({ ...narrowing, state: Type.Optional(State) }, closed);
export const DeadLetterQuery = Type.Object({ ...narrowing, state: Type.Optional(State), ...PageQuery }, closed);
export const DeadLetterParams = Type.Object({ id: Uuid });
export const RawQuery = Type.Object({ reason: Reason }, closed);
export const DecisionBody = Type.Object({ reason: Reason }, closed);
export const EditBody = Type.Object(
  {
    reason: Reason,
    payload: Type.Unknown({
      description: 'The whole payload as plain JSON; [redacted] in it stands for what the original has there.',
    }),
  },
  closed,
);
export const RetryManyBody = Type.Object(
  {
    reason: Reason,
    ...narrowing,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, description: 'Most letters; default: 100.' })),
  },
  closed,
);
export const RetriedSchema = Type.Object({
  retried: Type.Integer({ minimum: 0 }),
  more: Type.Boolean({ description: 'Whether open ones are left that the filter names.' }),
});

type Narrowing = Static<typeof DeadLetterCausesQuery>;

/** What was left out of a query, as the reading functions take it. */
export function filterOf({ type, code, topic, key, group, state, failedAfter, failedBefore }: Narrowing) {
  return {
    ...{ type: type ?? null, code: code ?? null, topic: topic ?? null, key: key ?? null, group: group ?? null },
    ...{ state: state ?? null, failedAfter: failedAfter ?? null, failedBefore: failedBefore ?? null },
  };
}
