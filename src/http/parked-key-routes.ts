/** Parked keys over HTTP: which there are, of groups and of relays, and letting one go on. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import type { OwnerDatabase } from '../deadletter/settlement.ts';
import { FerryError } from '../kernel/errors.ts';
import { listAllParkedKeys, type ParkedBy, releaseKeyOf } from '../ops/parked-keys.ts';
import { answers, closed, IdempotencyHeaders, orNull, Timestamp, text, Uuid } from './contract.ts';
import { answerOnce } from './idempotency.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const KEY = 'As text; bytes that are no UTF-8 are hexadecimal behind 0x.';
const ParkedKeysSchema = Type.Object({
  keys: Type.Array(
    Type.Object({
      group: orNull(Type.String(), 'The consumer group that parked it; null: a relay did.'),
      relay: orNull(Type.String()),
      topic: Type.String(),
      key: Type.String({ description: KEY }),
      eventId: Uuid,
      errorCode: Type.String(),
      events: Type.Integer({ minimum: 1, description: 'How many wait, the one that failed included.' }),
      parkedAt: Timestamp,
      releaseRequestedAt: orNull(Timestamp),
    }),
    { description: 'The longest parked first; at most 1,000 of each database.' },
  ),
});
const owner = {
  group: Type.Optional(text(255, 'A consumer group.')),
  relay: Type.Optional(text(200, 'A relay; not both.')),
};
const ReleaseBody = Type.Object(
  {
    ...owner,
    topic: text(249, 'Of the events, not the dead-letter topic.'),
    key: text(2_050, KEY),
    discard: Type.Optional(
      Type.Boolean({ description: 'Without the event that the others wait behind; default: false.' }),
    ),
    reason: text(500, 'Why: it stands in ferry.audit.'),
  },
  closed,
);
const ReleasedSchema = Type.Object({ eventId: Type.String({ description: 'What the key waits behind.' }) });

export function parkedKeyRoutes(deps: RouteDeps, databases: readonly OwnerDatabase[]): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/ops/parked-keys',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'listParkedKeys',
          summary: 'List keys whose events wait behind one that could not be published or applied',
          querystring: Type.Object(owner, closed),
          response: answers({ 200: ParkedKeysSchema }, [401, 403, 422, 503]),
        },
      },
      async ({ query }) => {
        const keys = await listAllParkedKeys(databases, ownerOf(query));
        return { keys: keys.map((key) => ({ ...key, events: Number(key.events) })) };
      },
    );

    app.post(
      '/v1/ops/parked-keys/release',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'releaseParkedKey',
          summary: 'Let a parked key go on: what waits is published or applied in its order',
          headers: IdempotencyHeaders,
          body: ReleaseBody,
          response: answers({ 200: ReleasedSchema }, [400, 401, 403, 404, 409, 413, 422, 503]),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async () => {
          const { group, relay, topic, key, discard = false, reason } = request.body;
          const by = ownerOf({ ...(group === undefined ? {} : { group }), ...(relay === undefined ? {} : { relay }) });
          if (by === null) throw new FerryError('INVALID_REQUEST', 'the body names neither group nor relay');
          // In the database where the key is parked, in a transaction of its own; asking twice does no harm.
          const asked = { ...by, topic, key, discard, reason };
          return { status: 200, body: await releaseKeyOf(databases, actorOf(request), asked) };
        }),
    );
    done();
  };
}

/** Null: everybody's. */
function ownerOf({ group, relay }: { readonly group?: string; readonly relay?: string }): ParkedBy | null {
  if (group !== undefined && relay !== undefined) {
    throw new FerryError('INVALID_REQUEST', 'group and relay exclude each other');
  }
  if (group !== undefined) return { group, relay: null };
  return relay === undefined ? null : { group: null, relay };
}
