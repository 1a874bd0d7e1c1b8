/** Starts the embedded parts that a session needs: those without an external address. */
import { loadConfig } from '../config/load.ts';
import { type EmbeddedStack, type EmbeddedStackOptions, startEmbeddedStack } from '../embedded/stack.ts';
import { migrationSets } from '../postgres/migrate.ts';
import type { Session } from './session.ts';
import { runSql } from './sql-runner.ts';

/** The home must be claimed; `modules` is FERRY_MODULES, whose outside systems are started with the parts. Throws as `startEmbeddedStack` does. */
export function startEmbeddedParts(
  session: Session,
  extra: Pick<EmbeddedStackOptions, 'progress' | 'onDeath' | 'ownDatabases'> = {},
  modules = '',
): Promise<EmbeddedStack> {
  const config = loadConfig(session.environment);
  return startEmbeddedStack({
    home: session.home,
    postgres: config.DATABASE_URL === undefined,
    kafka: config.KAFKA_BROKERS === undefined,
    registry: config.SCHEMA_REGISTRY_URL === undefined,
    paymentProvider: migrationSets(modules).includes('commerce') && config.PAYMENT_PROVIDER_URL === undefined,
    ports: {
      postgres: config.EMBEDDED_POSTGRES_PORT,
      kafka: config.EMBEDDED_KAFKA_PORT,
      registry: config.EMBEDDED_REGISTRY_PORT,
      'payment-provider': config.EMBEDDED_PAYMENT_PROVIDER_PORT,
    },
    sql: runSql,
    ...extra,
  });
}
