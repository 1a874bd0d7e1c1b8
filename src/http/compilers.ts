/**
 * What checks requests and writes answers, compiled from the routes' schemas when it is needed first: a server has hundreds of both, of which
 * it uses few in its first minutes, and to compile all of them takes a third of its start.
 */
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';

export const validatorCompiler: typeof TypeBoxValidatorCompiler = (route) =>
  whenCalled(() => TypeBoxValidatorCompiler(route));

/** Fastify's own serializers. */
export const buildSerializer: ReturnType<typeof SerializerSelector> = (...options) => {
  const compile = SerializerSelector()(...options);
  return (route) => whenCalled(() => compile(route));
};

function whenCalled<T, R>(compile: () => (value: T) => R): (value: T) => R {
  let compiled: ((value: T) => R) | undefined;
  return (value) => {
    compiled ??= compile();
    return compiled(value);
  };
}
