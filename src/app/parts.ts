/** What the roles of a process are made of, and what several of them need. */
import type { Databases } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import type { EventEncoder } from '../events/encoder.ts';
import type { TopicRoutes } from '../events/routes.ts';
import type { TopicSettings } from '../kafka/topic-catalog.ts';
import type { Scope } from '../kernel/scope.ts';
import type { Role } from '../ops/roles.ts';
import type { Pools } from '../postgres/pools.ts';
import { createEncoder } from '../registry/encoder.ts';
import type { SchemaStore } from '../registry/schema-store.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';

/** What every role is made of. */
export interface Parts {
  readonly config: Config;
  readonly roles: ReadonlySet<Role>;
  readonly databases: Databases;
  readonly telemetry: Telemetry;
  readonly routes: TopicRoutes;
  readonly store: SchemaStore;
  readonly pools: Pools;
  readonly scope: Scope;
}

export function encoderOf({ config, store }: Pick<Parts, 'config' | 'store'>): EventEncoder {
  return createEncoder({ store, naming: config.SUBJECT_NAMING, maxEventBytes: config.MAX_EVENT_BYTES });
}

/** Of the topics that Ferry makes. */
export function topicSettings(config: Config): TopicSettings {
  return { partitions: config.TOPIC_PARTITIONS, replicationFactor: config.TOPIC_REPLICATION_FACTOR };
}
