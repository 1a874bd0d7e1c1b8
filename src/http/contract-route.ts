/** Serves the contract that the routes themselves make. */
import { type FastifyPluginCallbackTypebox, Type } from '@fastify/type-provider-typebox';

export const contractRoute: FastifyPluginCallbackTypebox = (app, _options, done) => {
  app.get(
    '/openapi.json',
    {
      config: { role: 'public' },
      schema: {
        operationId: 'getContract',
        summary: 'This contract',
        response: { 200: Type.Unknown({ description: 'OpenAPI 3.1 document.' }) },
      },
    },
    () => app.swagger(),
  );
  done();
};
