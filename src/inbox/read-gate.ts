/** Read your writes in a service of one's own: a gate in front of the reads of a projection that a group keeps. */
import { metrics } from '@opentelemetry/api';
import { loadConfig } from '../config/load.ts';
import type { VariableName } from '../config/variables.ts';
import { kafkaOptions } from '../kafka/client.ts';
import { GroupProgress } from '../kafka/group-progress.ts';
import { parseLsn } from '../kernel/lsn.ts';
import { FERRY_VERSION } from '../kernel/version.ts';
import { createPool, type Pool } from '../postgres/connection.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { PositionGate, type WaitResult } from './position-gate.ts';

export interface ReadGateOptions {
  /** The group that keeps the projection, and all that it reads. */
  readonly group: string;
  readonly topics: readonly string[];
  /**
   * DATABASE_URL (of the outbox, which positions come from; the projection may be in another database), KAFKA_BROKERS, RELAY_NAME; default:
   * process.env.
   */
  readonly environment?: Readonly<Partial<Record<VariableName, string>>>;
  /** A pool of the service's own to the outbox's database; default: one is made of DATABASE_URL. */
  readonly pool?: Pool;
  readonly logger?: Logger;
}

export interface ReadGate {
  /**
   * Resolves with `applied` when the group has applied everything below `position` (text of an LSN, as Ferry-Position has it), or with who is
   * behind when the time is over. Never rejects but with a TypeError for what is no position.
   */
  untilApplied(wait: {
    readonly position: string;
    /** 0 looks once. */
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
  }): Promise<WaitResult>;
  /** Lets go of everybody who waits. Safe to call twice. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Makes a gate; it speaks to Kafka when the first read waits. Throws CONFIG_INVALID naming what is missing or wrong. */
export function openReadGate(options: ReadGateOptions): ReadGate {
  const { group: groupId, topics, environment = process.env, pool: own } = options;
  const config = loadConfig(environment);
  const logger = options.logger ?? createLogger(config, { role: 'read-gate' });
  const kafka = kafkaOptions(config, `ferry-${groupId}-reads`, logger);
  const pool = own ?? createPool(config, `ferry-${groupId}-reads`, { max: 1 });
  const gate = new PositionGate({
    db: pool,
    relay: config.RELAY_NAME,
    openGroup: () => GroupProgress.open({ kafka, groupId, topics }),
    logger,
    metrics: createMetrics(metrics.getMeter('ferry', FERRY_VERSION)),
  });
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= gate.close().finally(() => (own === undefined ? pool.end() : undefined));
    return closed;
  };
  return {
    untilApplied: async ({ position, timeoutMs, signal = new AbortController().signal }) =>
      gate.untilApplied({ position: parseLsn(position), timeoutMs, signal }),
    close,
    [Symbol.asyncDispose]: close,
  };
}
