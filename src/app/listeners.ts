/** What listens: the API where that is a role of this process, else probes where they are wanted. */
import type { DatabaseName } from '../config/databases.ts';
import type { Config } from '../config/variables.ts';
import type { PartState } from '../http/probe-routes.ts';
import type { HttpServer } from '../http/server.ts';
import { FerryError } from '../kernel/errors.ts';
import { kafkaState, registryState } from '../ops/part-state.ts';
import { relayPart } from '../ops/roles.ts';
import type { RelayStatus } from '../relay/relay.ts';
import { isAtWork } from '../relay/states.ts';
import type { Parts } from './parts.ts';
import type { Relays } from './relays.ts';

/** The API where that is a role of this process, else probes where they are wanted; resolves with the API's address. */
export async function serveHttp(
  parts: Parts,
  [first, ...others]: readonly DatabaseName[],
  relays: Relays,
): Promise<string | undefined> {
  const { config, roles, telemetry, pools } = parts;
  const probes = {
    ownDatabases: new Map(others.map((name) => [name, pools.of(name)])),
    parts: () => partStates(config, relays),
    metricsText: () => telemetry.metricsText(),
    logger: telemetry.logger.child({ part: 'http' }),
  };
  if (roles.has('api')) {
    const { createApi } = await import('./api.ts');
    return listen(parts, await createApi(parts, probes), 'HTTP_PORT');
  }
  if (config.PROBE_PORT !== 0 && first !== undefined) {
    const { createProbeServer } = await import('../http/probe-server.ts');
    await listen(parts, await createProbeServer({ ...probes, db: pools.of(first) }), 'PROBE_PORT');
  }
  return undefined;
}

function listen({ config, scope }: Parts, server: HttpServer, variable: 'HTTP_PORT' | 'PROBE_PORT'): Promise<string> {
  scope.defer('HTTP server', () => server.close());
  return server.listen({ host: config.HTTP_HOST, port: config[variable] }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EADDRINUSE') throw cause;
    throw new FerryError('PORT_TAKEN', `port ${config[variable]} is taken; ${variable} chooses another`, { cause });
  });
}

/** What of the world outside this process is within reach; none of it is needed to take an order in. */
async function partStates(config: Config, relays: Relays): Promise<Record<string, PartState>> {
  const [kafka, registry] = await Promise.all([kafkaState(config), registryState(config)]);
  const states = [...relays].map(([name, { status }]) => [relayPart(name), relayReadiness(status)] as const);
  return { kafka, registry, ...Object.fromEntries(states) };
}

/** A relay that waits for a part or stands by is no reason to refuse requests: what is written meanwhile is published later. */
function relayReadiness({ state, problem }: RelayStatus): PartState {
  return { state: isAtWork(state) ? 'ok' : 'degraded', detail: problem === null ? state : `${state}: ${problem}` };
}
