/** The way of one event over HTTP. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { type EventLineage, type LineageSources, traceEvent } from '../ops/lineage.ts';
import { REPLAY_STATES } from '../replay/states.ts';
import { answers, orNull, Timestamp, Uuid, UuidV7 } from './contract.ts';

const Lsn = Type.String({ description: 'WAL position, as Postgres writes it.' });
const TraceId = orNull(Type.String(), 'W3C trace id.');
const Database = Type.String({ description: 'main, or the participant that has one of its own.' });
const Row = Type.Object({
  database: Database,
  aggregateType: Type.String(),
  key: Type.String({ description: 'The aggregate’s id, and the record’s key.' }),
  aggregateVersion: orNull(Type.Integer({ minimum: 1 })),
  type: Type.String(),
  occurredAt: Timestamp,
  recordedAt: Timestamp,
  seq: Type.Integer({ description: 'In order of insertion.' }),
  transaction: Type.Integer({ description: 'Id of the writing transaction.' }),
  insertedLsn: Lsn,
  schemaId: orNull(Type.Integer(), 'That the writer pinned.'),
  status: Type.Enum(['pending', 'published', 'dead-lettered', 'unknown']),
  traceId: TraceId,
});
const RecordSchema = Type.Object({
  topic: Type.String(),
  partition: Type.Integer(),
  offset: Type.String(),
  publishedAt: Timestamp,
  commitLsn: orNull(Lsn, 'Of the transaction that wrote the event.'),
  seq: orNull(Type.Integer(), 'Its place in that transaction.'),
  schema: orNull(
    Type.Object({ subject: Type.String(), id: Type.Integer(), version: orNull(Type.Integer()) }),
    'Null for tombstones and dead letters.',
  ),
  errorCode: orNull(Type.String(), 'Why it is a dead letter.'),
});
const Consumer = Type.Object({
  group: Type.String(),
  database: Database,
  outcome: Type.Enum(['applied', 'parked', 'dead-lettered', 'discarded']),
  processedAt: Timestamp,
});
const Trouble = Type.Object({
  owner: Type.String({ description: 'A relay, a consumer group, or who acted.' }),
  database: Database,
  code: Type.String({ description: 'Why it is a dead letter, or the action.' }),
  at: Timestamp,
  detail: orNull(Type.String()),
});
const ReplayOf = Type.Object({
  replayId: Uuid,
  state: Type.Enum([...REPLAY_STATES]),
  passed: Type.Boolean({ description: 'It has come past the event: published again, unless it is a dead letter.' }),
  topic: orNull(Type.String(), 'Side topic; null: where the event was.'),
  newIds: Type.Boolean(),
  reason: Type.String(),
  startedAt: Timestamp,
});
const SagaStep = Type.Object({
  sagaId: Uuid,
  name: Type.String(),
  state: Type.String({ description: 'Of the saga, now.' }),
  step: orNull(Type.String()),
  cause: Type.String(),
  purpose: orNull(Type.String()),
  attempt: orNull(Type.Integer()),
  at: Timestamp,
});
const LineageSchema = Type.Object({
  id: UuidV7,
  row: orNull(Row, 'Null: no outbox that was looked at holds it.'),
  dayDropped: Type.Boolean({ description: 'Its day was taken out of an outbox, so there may have been a row.' }),
  record: orNull(RecordSchema, 'Null: not found; `unknown` says why.'),
  consumers: Type.Array(Consumer, { description: 'Groups that have dealt with it.' }),
  troubles: Type.Array(Trouble, { description: 'Dead letters, and what was done about them.' }),
  replays: Type.Array(ReplayOf, { description: 'Replays that have it in their selection.' }),
  sagaSteps: Type.Array(SagaStep, { description: 'What sent it, or was brought about by it.' }),
  unknown: Type.Array(Type.String(), { description: 'What could not be looked at, and why.' }),
});

export function lineageRoutes(sources: LineageSources): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/ops/events/:id',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'traceEvent',
          summary: 'The way of one event: row, record, consumers, dead letters, saga',
          params: Type.Object({ id: UuidV7 }),
          response: answers({ 200: LineageSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async ({ params }) => {
        const lineage = await traceEvent(sources, params.id as EventId);
        if (lineage === null) throw new FerryError('NOT_FOUND', `nothing is known of an event ${params.id}`);
        return resourceOf(lineage);
      },
    );
    done();
  };
}

function resourceOf({ row, consumers, troubles, replays, sagaSteps, unknown, ...rest }: EventLineage) {
  return {
    ...rest,
    row:
      row === null
        ? null
        : {
            ...row,
            aggregateVersion: row.aggregateVersion === null ? null : Number(row.aggregateVersion),
            seq: Number(row.seq),
            transaction: Number(row.transaction),
          },
    consumers: [...consumers],
    troubles: [...troubles],
    replays: [...replays],
    sagaSteps: [...sagaSteps],
    unknown: [...unknown],
  };
}
