/** Sagas over HTTP: find them, see one with its whole history, and what an operator can do about one. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import type { TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import { OPERATOR_ACTIONS, operateSaga } from '../ops/saga-operator.ts';
import { findSaga, findSagaSummary, listSagas, type SagaEvent, type SagaHistoryFacts } from '../ops/sagas.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { SagaEngine } from '../saga/engine.ts';
import type { OperatorAction } from '../saga/instance.ts';
import { INSTANCE_STATES, STEP_STATES } from '../saga/states.ts';
import { answers, closed, IdempotencyHeaders, orNull, Timestamp, text, Uuid, UuidV7, When } from './contract.ts';
import { NextCursor, PageQuery, readPage } from './cursor.ts';
import { answerOnce } from './idempotency.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

/** What the routes of sagas need beside the others. */
export interface SagaDeps {
  /** Knows the definitions of all sagas that may be operated. */
  readonly engine: SagaEngine;
  readonly routes: TopicRoutes;
}

const StepName = Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' });
const SagaName = Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' });
const SagaKey = text(512, 'What it is about, such as an order’s id: one saga of a name a key.');
const TraceId = orNull(Type.String(), 'W3C trace id.');

const summaryFields = {
  id: UuidV7,
  name: SagaName,
  version: Type.Integer({ minimum: 1, description: 'Of its definition.' }),
  key: SagaKey,
  state: Type.Enum([...INSTANCE_STATES]),
  step: orNull(StepName, 'Whose reply is waited for, or where it is stuck; null once it has ended.'),
  tries: Type.Integer({ description: 'How often that step’s command was sent since it was last given all its tries.' }),
  cancelling: Type.Boolean({ description: 'To be undone as soon as the step in flight is answered.' }),
  dueAt: orNull(Timestamp, 'When it is looked at without a reply; null: never.'),
  errorCode: orNull(Type.String(), 'Why it is undone, or waits: a code of docs/errors.md.'),
  traceId: TraceId,
  startedAt: Timestamp,
  changedAt: Timestamp,
  endedAt: orNull(Timestamp),
};
const SagaSummarySchema = Type.Object(summaryFields);
const SagaPageSchema = Type.Object({ sagas: Type.Array(SagaSummarySchema), nextCursor: NextCursor });
const SagaStepSchema = Type.Object({
  step: StepName,
  state: Type.Enum([...STEP_STATES]),
  attempt: Type.Integer({ description: 'Number of the last command to do it; 0: it was done before the saga.' }),
  undoAttempt: Type.Integer({ description: 'Number of the last command to undo it.' }),
  changedAt: Timestamp,
});
const SagaEventSchema = Type.Object({
  id: UuidV7,
  type: Type.String(),
  topic: orNull(Type.String()),
  key: Type.String({ description: 'The record’s key; its partition follows from it.' }),
  lsn: Type.String({ description: 'WAL position at the insert; ferry_lsn of the record is that of the commit.' }),
  status: Type.Enum(['pending', 'published', 'dead-lettered', 'unknown']),
  traceId: TraceId,
});
const SagaHistorySchema = Type.Object({
  id: Type.Integer({ minimum: 1, description: 'Grows within one saga.' }),
  at: Timestamp,
  cause: Type.Enum(['start', 'command', 'reply', 'late-reply', 'timeout', 'operator', 'set-aside']),
  step: orNull(StepName, 'Null: of the saga as a whole.'),
  from: orNull(Type.String()),
  to: Type.String({ description: 'The same as `from` for what changed nothing.' }),
  purpose: orNull(Type.Enum(['do', 'undo'])),
  attempt: orNull(Type.Integer()),
  eventId: orNull(UuidV7, 'The command that was sent, or the reply that came.'),
  event: orNull(SagaEventSchema, 'That event; null if the outbox of this database does not hold it.'),
  actor: orNull(Type.String(), 'Who, if an operator did it.'),
  reason: orNull(Type.String(), 'In the words of the participant or the operator.'),
});
const SagaSchema = Type.Object({
  ...summaryFields,
  error: orNull(Type.String(), 'Why it is undone, or waits.'),
  steps: Type.Array(SagaStepSchema, { description: 'Those whose turn has come.' }),
  history: Type.Array(SagaHistorySchema, { description: 'Oldest first.' }),
  historyCut: Type.Boolean({ description: 'True: there is more of it, and the oldest was left out.' }),
});
const SagaParams = Type.Object({ id: Uuid });
const SagaQuery = Type.Object(
  {
    name: Type.Optional(SagaName),
    state: Type.Optional(Type.Enum([...INSTANCE_STATES])),
    key: Type.Optional(SagaKey),
    step: Type.Optional(StepName),
    startedAfter: Type.Optional(When),
    startedBefore: Type.Optional(When),
    ...PageQuery,
  },
  closed,
);
const OperationBody = Type.Object(
  { reason: text(500, 'Why: it stands in the saga’s history and in ferry.audit.') },
  closed,
);

export function sagaRoutes(deps: RouteDeps, { engine, routes }: SagaDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/sagas',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'listSagas',
          summary: 'List sagas, newest first',
          querystring: SagaQuery,
          response: answers({ 200: SagaPageSchema }, [401, 403, 422, 503]),
        },
      },
      async ({ query }) => {
        const { name = null, state = null, key = null, step = null } = query;
        const { startedAfter = null, startedBefore = null } = query;
        const filter = { name, state, key, step, startedAfter, startedBefore };
        const { rows, nextCursor } = await readPage(query, (slice) => listSagas(deps.pool, { ...filter, ...slice }));
        return { sagas: [...rows], nextCursor };
      },
    );

    app.get(
      '/v1/sagas/:id',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getSaga',
          summary: 'Read a saga with its steps and its history, each command and reply with its event',
          params: SagaParams,
          response: answers({ 200: SagaSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async ({ params }) => {
        const saga = await knownSaga(deps.pool, params.id, deps.relayName);
        return { ...saga, steps: [...saga.steps], history: saga.history.map((row) => historyOf(row, routes)) };
      },
    );

    for (const action of Object.keys(OPERATOR_ACTIONS) as OperatorAction[]) {
      app.post(
        `/v1/ops/sagas/:id/${action}`,
        {
          config: { role: 'operator' },
          schema: {
            operationId: `${action}Saga`,
            summary: OPERATOR_ACTIONS[action],
            headers: IdempotencyHeaders,
            params: SagaParams,
            body: OperationBody,
            response: answers({ 200: SagaSummarySchema }, [400, 401, 403, 404, 409, 422, 500, 503]),
          },
        },
        (request, reply) =>
          answerOnce(deps.idempotency, request, reply, async (tx) => {
            const { id } = request.params;
            await operateSaga(tx, engine, actorOf(request), { sagaId: id, action, reason: request.body.reason });
            return { status: 200, body: await findSagaSummary(tx, id) };
          }),
      );
    }
    done();
  };
}

async function knownSaga(db: Queryable, id: string, relay: string) {
  const saga = await findSaga(db, id, relay);
  if (saga === null) throw new FerryError('NOT_FOUND', `there is no saga ${id}`);
  return saga;
}

function historyOf({ id, event, ...row }: SagaHistoryFacts, routes: TopicRoutes): Static<typeof SagaHistorySchema> {
  return { ...row, id: Number(id), event: event === null ? null : eventOf(event, routes) };
}

function eventOf({ aggregateType, ...event }: SagaEvent, routes: TopicRoutes): Static<typeof SagaEventSchema> {
  return { ...event, topic: routes.tryTopicOf(aggregateType) };
}
