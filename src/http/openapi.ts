/** The routes' schemas as an OpenAPI document; the file openapi.yaml is this document, held by a test. */
import { STATUS_CODES } from 'node:http';
import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { FERRY_VERSION } from '../kernel/version.ts';
import { ProblemSchema } from './problem.ts';

const DESCRIPTION =
  'Writes business rows and events in one Postgres transaction; every committed event reaches Kafka once. Errors are RFC 9457 problems.';

/** Describes all routes that are registered afterwards; `app.swagger()` gives the document. */
export async function describeContract(app: FastifyInstance): Promise<void> {
  app.addSchema(ProblemSchema);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Ferry', version: FERRY_VERSION, description: DESCRIPTION },
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `schema-${index}`) },
    transform: ({ schema, url, route }) => {
      const role = route.config?.role;
      const access = role === 'public' ? { security: [] } : { security: [{ apiKey: [] }], 'x-ferry-role': role };
      return { schema: { ...schema, ...access, response: describeAnswers(schema.response) }, url };
    },
  });
}

/** Each answer with its status in words; problems as a reference, under their own media type. */
function describeAnswers(response: unknown): Record<string, unknown> {
  const answers = Object.entries((response ?? {}) as Record<string, object>);
  return Object.fromEntries(
    answers.map(([status, schema]) => {
      const description = STATUS_CODES[status] ?? status;
      if (schema !== ProblemSchema) return [status, { description, ...schema }];
      return [status, { description, content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } } }];
    }),
  );
}
