import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Type } from '@fastify/type-provider-typebox';
import { fastify } from 'fastify';
import { buildSerializer, validatorCompiler } from '../../../src/http/compilers.ts';

/** A server with two routes; `read` tells which schemas were looked into. */
async function serverOf() {
  const read = new Set<string>();
  const watched = (name: string) =>
    new Proxy(Type.Object({ quantity: Type.Integer({ minimum: 1 }) }), {
      get: (schema, key, receiver) => {
        if (key === 'properties') read.add(name);
        return Reflect.get(schema, key, receiver);
      },
    });
  const app = fastify({ schemaController: { compilersFactory: { buildSerializer } } });
  app.setValidatorCompiler(validatorCompiler);
  for (const name of ['asked', 'not-asked']) {
    app.get(`/${name}`, { schema: { querystring: watched(name) } }, async () => ({}));
    const response = { 200: Type.Object({ kept: Type.String() }) };
    app.get(`/${name}/answer`, { schema: { response } }, async () => ({ kept: 'a', left: 'b' }));
  }
  await app.ready();
  return { app, read };
}

test('a check is compiled with the first request that needs it, and holds from that one on', async () => {
  const { app, read } = await serverOf();
  for (let request = 0; request < 2; request++) {
    assert.equal((await app.inject('/asked?quantity=3')).statusCode, 200);
    assert.equal((await app.inject('/asked?quantity=0')).statusCode, 400);
  }
  assert.deepEqual([...read], ['asked']);
  await app.close();
});

test('answers hold what their schema names, the first as well as the next', async () => {
  const { app } = await serverOf();
  for (let request = 0; request < 2; request++) assert.equal((await app.inject('/asked/answer')).body, '{"kept":"a"}');
  await app.close();
});
