/** The server of a process without the api role: probes and metrics, nothing else. */
import { type FastifyBaseLogger, type FastifyInstance, fastify } from 'fastify';
import type { Logger } from '../telemetry/logger.ts';
import { validatorCompiler } from './compilers.ts';
import { type ProbeDeps, probeRoutes } from './probe-routes.ts';
import { sendProblem } from './problem.ts';

/** Makes the server; listening and closing are the caller's. */
export async function createProbeServer(deps: ProbeDeps & { readonly logger: Logger }): Promise<FastifyInstance> {
  const logger: FastifyBaseLogger = deps.logger;
  const app: FastifyInstance = fastify({ loggerInstance: logger, disableRequestLogging: true });
  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply));
  await app.register(probeRoutes(deps));
  return app;
}
