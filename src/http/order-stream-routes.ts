/** An order's fulfilment as it goes on: the transitions of its saga as server-sent events, for a client that waits. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';
import { fulfilment } from '../domain/commerce/fulfilment.ts';
import { findOrder } from '../domain/commerce/repository.ts';
import { FerryError } from '../kernel/errors.ts';
import { SagaFeed, type SagaTransition } from '../ops/saga-feed.ts';
import type { Logger } from '../telemetry/logger.ts';
import { answers, Uuid } from './contract.ts';
import type { RouteDeps } from './route-deps.ts';
import { EVENT_STREAM, type ServerSentEvent, StreamLimit, sendEvents } from './server-sent-events.ts';

const MAX_STREAMS = 500;

/** Limits of one stream. */
const STREAM = {
  /** Less than what proxies allow a connection to be silent. */
  heartbeatMs: 15_000,
  /** Then the client comes back, with a key that is looked at again. */
  maxMs: 900_000,
} as const;

const OrderParams = Type.Object({ id: Uuid });
const StreamHeaders = Type.Object({
  'last-event-id': Type.Optional(
    Type.String({
      pattern: '^\\d{1,18}$',
      description: 'Id of the last event that was seen; left out: from the start.',
    }),
  ),
});
const StreamText = Type.String({
  description:
    'Events `transition`, each with the id of its row in the saga’s history; then one `end`, with the state that the saga ended in.',
});

export function orderStreamRoutes(deps: RouteDeps, logger: Logger): FastifyPluginCallbackTypebox {
  const feed = new SagaFeed({ db: deps.pool, saga: fulfilment.name, logger });
  const limit = new StreamLimit(MAX_STREAMS);
  return (app, _options, done) => {
    app.get(
      '/v1/orders/:id/events',
      {
        config: { role: 'viewer' },
        exposeHeadRoute: false,
        schema: {
          operationId: 'followOrder',
          summary: 'Follow an order’s fulfilment as server-sent events, from the start or from the last event seen',
          params: OrderParams,
          headers: StreamHeaders,
          produces: [EVENT_STREAM],
          response: answers({ 200: StreamText }, [401, 403, 404, 422, 503]),
        },
      },
      async (request, reply) => {
        const gone = limit.take(reply);
        const { id } = request.params;
        if ((await findOrder(deps.pool, id)) === null) throw new FerryError('NOT_FOUND', `there is no order ${id}`);
        const after = BigInt(request.headers['last-event-id'] ?? 0);
        const signal = AbortSignal.any([gone, deps.stopping]);
        return sendEvents(reply, followSaga(feed, { key: id, after, signal, ...STREAM }));
      },
    );
    done();
  };
}

export interface StreamRequest {
  readonly key: string;
  /** Id of the last transition that the client has seen; 0n for none. */
  readonly after: bigint;
  /** A heartbeat after this long without news. */
  readonly heartbeatMs: number;
  /** The stream ends after this long, whether the saga has ended or not. */
  readonly maxMs: number;
  readonly signal: AbortSignal;
}

/** The saga's transitions after the one given, in order and without a gap, null as a heartbeat; ends after the saga's end was told. */
export async function* followSaga(
  feed: SagaFeed,
  { key, after, heartbeatMs, maxMs, signal }: StreamRequest,
): AsyncGenerator<ServerSentEvent | null> {
  const endsAt = performance.now() + maxMs;
  for (let seen = after; !signal.aborted && performance.now() < endsAt; ) {
    const progress = await feed.next({ key, after: seen, timeoutMs: heartbeatMs, signal });
    if (progress === null) {
      if (!signal.aborted) yield null;
      continue;
    }
    const { sagaId, state, transitions, ended } = progress;
    for (const transition of transitions) {
      yield transitionEvent(sagaId, transition);
      seen = transition.id;
    }
    if (ended) {
      yield { event: 'end', data: { sagaId, state } };
      return;
    }
  }
}

function transitionEvent(sagaId: string, { id, ...transition }: SagaTransition): ServerSentEvent {
  return { id: String(id), event: 'transition', data: { sagaId, ...transition } };
}
