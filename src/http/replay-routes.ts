/** Replays over HTTP: begin one or only count it, follow it, stop it and let it go on. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import { OWN_DATABASE_NAMES } from '../config/databases.ts';
import {
  dryRun,
  type GroupsOfTopics,
  knownReplay,
  operateReplay,
  type ReplayPlace,
  startReplay,
} from '../ops/replays.ts';
import { REPLAY_ACTIONS, REPLAY_STATES, type ReplayAction } from '../replay/states.ts';
import { listReplays } from '../replay/store.ts';
import { answers, closed, IdempotencyHeaders, UuidV7 } from './contract.ts';
import { NextCursor, PageQuery, readPage } from './cursor.ts';
import { answerOnce } from './idempotency.ts';
import {
  bodyOf,
  factsOf,
  PreviewSchema,
  previewOf,
  Reason,
  ReplayBody,
  ReplayFactsSchema,
  ReplaySchema,
  requestOf,
} from './replay-contract.ts';
import { actorOf, type DepsOfDatabase } from './route-deps.ts';

/** What the routes of replays need beside the others. */
export interface ReplayDeps extends Omit<ReplayPlace, 'relay'> {
  readonly groupsOf: GroupsOfTopics;
}

/** A dry run ends within the server's time-out of a request. */
const DRY_RUN_TIMEOUT_MS = 20_000;

const ReplayParams = Type.Object({ id: UuidV7 });
const database = Type.Optional(
  Type.Enum(['main', ...OWN_DATABASE_NAMES], {
    description: 'Whose outbox: a participant that has a database of its own; default: main.',
  }),
);
const DatabaseQuery = Type.Object({ database }, closed);
const ReplayQuery = Type.Object(
  { database, state: Type.Optional(Type.Enum([...REPLAY_STATES])), ...PageQuery },
  closed,
);

export function replayRoutes(depsOf: DepsOfDatabase, { groupsOf, ...where }: ReplayDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.post(
      '/v1/ops/replays',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'startReplay',
          summary: 'Publish rows of the outbox once more, or count what that would be',
          headers: IdempotencyHeaders,
          querystring: DatabaseQuery,
          body: ReplayBody,
          response: answers(
            { 200: PreviewSchema, 201: ReplayFactsSchema },
            [400, 401, 403, 409, 413, 415, 422, 500, 503],
          ),
        },
      },
      async (request, reply) => {
        const { pool, relayName: relay, idempotency } = depsOf(request.query.database);
        const place: ReplayPlace = { ...where, relay };
        const replay = requestOf(request.body);
        if (request.body.dryRun === true) {
          reply.send(previewOf(await dryRun(pool, place, groupsOf, replay, DRY_RUN_TIMEOUT_MS)));
          return;
        }
        await answerOnce(idempotency, request, reply, async (tx) => {
          const id = await startReplay(tx, actorOf(request), place, replay);
          return {
            status: 201,
            body: factsOf(await knownReplay(tx, id)),
            location: placeOf(id, request.query.database),
          };
        });
      },
    );

    app.get(
      '/v1/ops/replays',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'listReplays',
          summary: 'List replays, newest first',
          querystring: ReplayQuery,
          response: answers(
            { 200: Type.Object({ replays: Type.Array(ReplaySchema), nextCursor: NextCursor }) },
            [401, 403, 422, 503],
          ),
        },
      },
      async ({ query }) => {
        const { database, state = null } = query;
        const { pool } = depsOf(database);
        const { rows, nextCursor } = await readPage(query, (slice) => listReplays(pool, { state, ...slice }));
        return { replays: rows.map(bodyOf), nextCursor };
      },
    );

    app.get(
      '/v1/ops/replays/:id',
      {
        config: { role: 'operator' },
        schema: {
          operationId: 'getReplay',
          summary: 'Read how far a replay is',
          params: ReplayParams,
          querystring: DatabaseQuery,
          response: answers({ 200: ReplayFactsSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async ({ params, query }) => factsOf(await knownReplay(depsOf(query.database).pool, params.id)),
    );

    for (const action of Object.keys(REPLAY_ACTIONS) as ReplayAction[]) {
      app.post(
        `/v1/ops/replays/:id/${action}`,
        {
          config: { role: 'operator' },
          schema: {
            operationId: `${action}Replay`,
            summary: REPLAY_ACTIONS[action],
            headers: IdempotencyHeaders,
            params: ReplayParams,
            querystring: DatabaseQuery,
            body: Type.Object({ reason: Reason }, closed),
            response: answers({ 200: ReplayFactsSchema }, [400, 401, 403, 404, 409, 422, 503]),
          },
        },
        (request, reply) =>
          answerOnce(depsOf(request.query.database).idempotency, request, reply, async (tx) => {
            const { id } = request.params;
            await operateReplay(tx, actorOf(request), { id, action, reason: request.body.reason });
            return { status: 200, body: factsOf(await knownReplay(tx, id)) };
          }),
      );
    }
    done();
  };
}

function placeOf(id: string, database: string | undefined): string {
  return `/v1/ops/replays/${id}${database === undefined ? '' : `?database=${database}`}`;
}
