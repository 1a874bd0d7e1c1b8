/** The role api: what the HTTP API is given. */
import { recordSource } from '../cli/record-source.ts';
import type { DatabaseName } from '../config/databases.ts';
import { PayloadViews } from '../deadletter/payload-views.ts';
import { fulfilment } from '../domain/commerce/fulfilment.ts';
import { ordersPerCustomerSource } from '../domain/commerce/orders-per-customer.ts';
import { ANSWERS } from '../domain/commerce/roles.ts';
import type { ProbeDeps } from '../http/probe-routes.ts';
import type { Projections } from '../http/route-deps.ts';
import { createHttpServer, type HttpServer } from '../http/server.ts';
import { PositionGate } from '../inbox/position-gate.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { GroupProgress } from '../kafka/group-progress.ts';
import { groupsOfTopics } from '../kafka/topic-groups.ts';
import { createEventWriter } from '../outbox/event-writer.ts';
import { migrationSets } from '../postgres/migrate.ts';
import { createDecoder } from '../registry/decoder.ts';
import { SagaEngine } from '../saga/engine.ts';
import type { Logger } from '../telemetry/logger.ts';
import { encoderOf, type Parts } from './parts.ts';

export type ProbeSources = Omit<ProbeDeps, 'db'> & { readonly logger: Logger };

export async function createApi(parts: Parts, probes: ProbeSources): Promise<HttpServer> {
  const { config, telemetry, routes, store, pools } = parts;
  return createHttpServer({
    ...probes,
    config,
    pool: pools.of('main'),
    databases: pools.withRelays(),
    events: createEventWriter(encoderOf(parts), routes),
    ownerOf: ownersByTopic(parts),
    projections: gateProjections(parts),
    sagas: { engine: new SagaEngine({ ...telemetry, sagas: [fulfilment] }), routes },
    payloads: {
      views: new PayloadViews({ store, decoder: createDecoder({ store }), naming: config.SUBJECT_NAMING }),
      encoder: encoderOf(parts),
    },
    lineage: {
      databases: [...pools.withRelays()].map(([name, { pool, relay }]) => ({ name, db: pool, relay })),
      routes,
      records: recordSource(config),
    },
    replays: {
      routes,
      topicPrefix: config.TOPIC_PREFIX,
      groupsOf: (topics) => groupsOfTopics(kafkaOptions(config, 'ferry-api', probes.logger), topics),
    },
    tracer: telemetry.tracer,
    metrics: telemetry.metrics,
    modules: migrationSets(config.FERRY_MODULES).filter((set) => set === 'commerce'),
  });
}

/** Which own database holds the events of an aggregatetype's topic: two outboxes could not keep the order of its keys. */
function ownersByTopic({ databases, routes }: Parts): (aggregateType: string) => DatabaseName | null {
  const owners = new Map<string, DatabaseName>();
  for (const [name, { own }] of databases) if (own !== undefined) owners.set(routes.topicOf(ANSWERS[own]), name);
  return (aggregateType) => owners.get(routes.tryTopicOf(aggregateType) ?? '') ?? null;
}

/** How reads wait until a projection has come to their position. Kafka is first spoken to when one does. */
function gateProjections({ config, telemetry, routes, pools, scope }: Parts): Projections {
  const { metrics } = telemetry;
  const logger = telemetry.logger.child({ part: 'position-gate' });
  const { group: groupId, topics } = ordersPerCustomerSource(routes, config.TOPIC_PREFIX);
  const openGroup = async () =>
    GroupProgress.open({ kafka: kafkaOptions(config, 'ferry-api', logger), groupId, topics });
  const gate = new PositionGate({ db: pools.of('main'), relay: config.RELAY_NAME, openGroup, logger, metrics });
  scope.defer('position gate', () => gate.close());
  return { ordersPerCustomer: gate.untilApplied };
}
