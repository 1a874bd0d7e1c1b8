/** How Ferry speaks to Kafka: one set of options, from which clients, clusters and admins are made. */
import { Kafka, type LogEntry, logLevel } from 'kafkajs';
import type { Config } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import './request-queue-patch.ts';
import type { Sockets } from './sockets.ts';

export interface KafkaOptions {
  readonly brokers: readonly string[];
  /** Verified TLS. */
  readonly tls: boolean;
  readonly clientId: string;
  readonly logger: Logger;
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\]):\d+$/;

/** Throws CONFIG_INVALID when KAFKA_BROKERS is missing or malformed. */
export function kafkaOptions(
  config: Pick<Config, 'KAFKA_BROKERS' | 'KAFKA_TLS'>,
  clientId: string,
  logger: Logger,
): KafkaOptions {
  const brokers = (config.KAFKA_BROKERS ?? '')
    .split(',')
    .map((broker) => broker.trim())
    .filter((broker) => broker !== '');
  if (brokers.length === 0 || brokers.some((broker) => !/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/.test(broker))) {
    throw new FerryError(
      'CONFIG_INVALID',
      `KAFKA_BROKERS is ${JSON.stringify(config.KAFKA_BROKERS ?? '')}; it takes host:port pairs separated by commas`,
    );
  }
  const loopback = brokers.every((broker) => LOOPBACK.test(broker));
  const tls = config.KAFKA_TLS === 'on' || (config.KAFKA_TLS === 'auto' && !loopback);
  return { brokers, tls, clientId, logger };
}

/** What every kafkajs object of ours is made with. */
export function clientSettings(options: KafkaOptions) {
  return {
    clientId: options.clientId,
    brokers: [...options.brokers],
    ssl: options.tls,
    connectionTimeout: 3_000,
    requestTimeout: 15_000,
    // Short: whoever calls tries again with a fresh client, which finds a failed-over coordinator far sooner (design.md: 20 to 40 s otherwise).
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 4 },
    logLevel: logLevel.WARN,
    logCreator: () => (entry: LogEntry) => writeLog(options.logger, entry),
  };
}

/** With `sockets` the client can be cut off. */
export function createKafka(options: KafkaOptions, sockets?: Sockets): Kafka {
  const socketFactory = sockets === undefined ? {} : { socketFactory: sockets.factory };
  return new Kafka({ ...clientSettings(options), ...socketFactory });
}

/**
 * kafkajs reports as errors what its callers handle (a broker that is away, a group that rebalances): those are debug lines here, and
 * what matters is logged by whoever gets the thrown error. Only the message is kept: its extras may hold record contents.
 */
function writeLog(logger: Logger, entry: LogEntry): void {
  logger.debug({ kafka: entry.namespace, level: entry.label }, entry.log.message);
}
