/** For those who run Ferry: is it alive, is it ready, and its metrics. None asks for a key; none tells a secret. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import { withDeadline } from '../kernel/deadline.ts';
import { coerceError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';
import { PARTITION_DAYS_WANTED, partitionDaysAhead } from '../postgres/partitions.ts';

/** `degraded`: works now, but somebody should look. */
const STATES = ['ok', 'degraded', 'down'] as const;
const PartSchema = Type.Object({ state: Type.Enum([...STATES]), detail: Type.Optional(Type.String()) });
const ReadinessSchema = Type.Object({
  status: Type.Enum([...STATES]),
  parts: Type.Record(Type.String(), PartSchema),
});
export type PartState = Static<typeof PartSchema>;

export interface ProbeDeps {
  /** The database without which nothing works here. */
  readonly db: Queryable;
  /** Participants' own databases that this process works with too, by name: without one of them the rest goes on. */
  readonly ownDatabases?: ReadonlyMap<string, Queryable>;
  /**
   * The states of the parts that only the composition root knows (Kafka, registry, relay, consumers). A part without which no request
   * can be answered is `down` when it is away; others are `degraded`.
   */
  readonly parts: () => Promise<Readonly<Record<string, PartState>>>;
  /** All metrics in Prometheus's text format. */
  readonly metricsText: () => Promise<string>;
}

const PROBE_TIMEOUT_MS = 2_000;

export function probeRoutes(deps: ProbeDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/livez',
      {
        config: { role: 'public' },
        schema: {
          operationId: 'isAlive',
          summary: 'The process answers',
          response: { 200: Type.Object({ status: Type.Enum(['ok']) }) },
        },
      },
      () => ({ status: 'ok' as const }),
    );

    app.get(
      '/readyz',
      {
        config: { role: 'public' },
        schema: {
          operationId: 'isReady',
          summary: 'Whether requests can be answered, with the state of each part',
          response: { 200: ReadinessSchema, 503: ReadinessSchema },
        },
      },
      async (_request, reply) => {
        const own = [...(deps.ownDatabases ?? [])].map(([name, db]) => ownOutboxState(name, db));
        const states = await Promise.all([outboxState(deps.db), ...own, otherStates(deps.parts)]);
        const parts: Record<string, PartState> = Object.assign({}, ...states);
        const worst = new Set(Object.values(parts).map(({ state }) => state));
        const status = STATES.findLast((state) => worst.has(state)) ?? 'ok';
        return reply.code(status === 'down' ? 503 : 200).send({ status, parts });
      },
    );

    app.get(
      '/metrics',
      {
        config: { role: 'public' },
        schema: {
          operationId: 'getMetrics',
          summary: 'Metrics in Prometheus’s text format',
          produces: ['text/plain'],
          response: { 200: Type.String() },
        },
      },
      async (_request, reply) => reply.type('text/plain; version=0.0.4; charset=utf-8').send(await deps.metricsText()),
    );
    done();
  };
}

/** Postgres answers, and the outbox has partitions for the coming days. */
async function outboxState(db: Queryable): Promise<Record<string, PartState>> {
  try {
    const days = await withDeadline('asking Postgres', PROBE_TIMEOUT_MS, partitionDaysAhead(db));
    const detail = `partitions for ${days} days ahead`;
    const wanted = days >= PARTITION_DAYS_WANTED;
    const remedy = `${detail}, fewer than ${PARTITION_DAYS_WANTED}: run ./ferry migrate`;
    return {
      postgres: { state: 'ok' },
      outbox: wanted ? { state: 'ok', detail } : { state: days < 0 ? 'down' : 'degraded', detail: remedy },
    };
  } catch {
    return { postgres: { state: 'down', detail: 'does not answer' } };
  }
}

async function ownOutboxState(name: string, db: Queryable): Promise<Record<string, PartState>> {
  const states = Object.entries(await outboxState(db));
  return Object.fromEntries(
    states.map(([part, { state, detail }]) => [
      `${part}-${name}`,
      { state: state === 'down' ? 'degraded' : state, ...(detail === undefined ? {} : { detail }) },
    ]),
  );
}

async function otherStates(parts: ProbeDeps['parts']): Promise<Readonly<Record<string, PartState>>> {
  try {
    return await withDeadline('asking the parts', PROBE_TIMEOUT_MS, parts());
  } catch (error) {
    return { parts: { state: 'degraded', detail: coerceError(error).name } };
  }
}
