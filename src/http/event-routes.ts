/** Events over HTTP: write one of any registered type, and see where it is. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import { recordAudit } from '../domain/audit.ts';
import { isReservedHeader } from '../events/record.ts';
import { FerryError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import { eventStatus, isDayRetired } from '../outbox/event-status.ts';
import { answers, closed, IdempotencyHeaders, text, UuidV7 } from './contract.ts';
import { answerOnce } from './idempotency.ts';
import { WRITTEN } from './position.ts';
import { pointerToken } from './problem.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const EventBody = Type.Object(
  {
    id: Type.Optional(Type.String({ ...UuidV7, description: 'UUIDv7 of about now; left out: one is made.' })),
    aggregateType: text(200, 'Chooses the topic.'),
    aggregateId: text(512, 'The record’s key; events of one aggregate keep their order.'),
    type: text(255, 'Full name of a registered Avro record.'),
    payload: Type.Unknown({
      description: 'Plain JSON in the form of the schema; null for a tombstone. Whole numbers keep every digit.',
    }),
    schemaId: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_147_483_647, description: 'Pins the schema.' })),
    headers: Type.Optional(
      Type.Record(Type.String({ minLength: 1, maxLength: 200 }), Type.String({ maxLength: 4096 }), {
        description: 'Further headers of the record; no name begins with ce_ or ferry_, which are Ferry’s own.',
      }),
    ),
    occurredAt: Type.Optional(
      Type.String({
        pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|[+-]\\d\\d:\\d\\d)$',
        description: 'RFC 3339; left out: now.',
      }),
    ),
  },
  closed,
);
const WrittenEventSchema = Type.Object(
  {
    id: UuidV7,
    aggregateVersion: Type.Integer({ minimum: 1, description: 'One more than the aggregate’s event before.' }),
  },
  WRITTEN,
);
const EventStatusSchema = Type.Object({ id: UuidV7, status: Type.Enum(['pending', 'published', 'dead-lettered']) });
const EventParams = Type.Object({ id: UuidV7 });

export function eventRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.post(
      '/v1/events',
      {
        config: { role: 'writer' },
        schema: {
          operationId: 'writeEvent',
          summary: 'Write one event into the outbox, checked against its registered schema',
          headers: IdempotencyHeaders,
          body: EventBody,
          response: answers({ 201: WrittenEventSchema }, [400, 401, 403, 409, 413, 422, 503]),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { id, ...event } = request.body;
          refuseForeign(deps, event.aggregateType);
          refuseReserved(event.headers ?? {});
          const given = id === undefined ? event : { ...event, id: id as EventId };
          const written = await deps.events.write(tx, given, 'client');
          await recordAudit(tx, actorOf(request), {
            action: 'event.write',
            subject: `event/${written.id}`,
            eventId: written.id,
          });
          const body = { id: written.id, aggregateVersion: Number(written.aggregateVersion) };
          return { status: 201, body, location: `/v1/events/${written.id}/status` };
        }),
    );

    app.get(
      '/v1/events/:id/status',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getEventStatus',
          summary: 'Whether an event has reached Kafka',
          params: EventParams,
          response: answers({ 200: EventStatusSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async (request) => {
        const id = request.params.id as EventId;
        const status = await eventStatus(deps.pool, id, deps.relayName);
        if (status !== 'unknown') return { id, status };
        const problem = (await isDayRetired(deps.pool, id))
          ? `the day of the event ${id} has been taken out of the outbox, or is about to be; ./ferry trace finds its record`
          : `there is no committed event ${id}`;
        throw new FerryError('NOT_FOUND', problem);
      },
    );
    done();
  };
}

/** The events of a topic keep their order only as long as one outbox holds them all. */
function refuseForeign(deps: RouteDeps, aggregateType: string): void {
  const owner = deps.ownerOf(aggregateType);
  if (owner === null) return;
  const problem = `events of ${aggregateType} are written in the database of ${owner} alone`;
  throw new FerryError('INVALID_REQUEST', `aggregateType: ${problem}`, { details: { field: 'aggregateType' } });
}

/** By such headers a client could speak for Ferry: answer a saga's command, for example, of which only its participant knows the outcome. */
function refuseReserved(headers: Readonly<Record<string, string>>): void {
  const name = Object.keys(headers).find(isReservedHeader);
  if (name === undefined) return;
  const path = `/headers/${pointerToken(name)}`;
  const problem = 'names that begin with ce_ or ferry_ are Ferry’s own; give the header another name';
  throw new FerryError('INVALID_REQUEST', `${path}: ${problem}`, { details: { path } });
}
