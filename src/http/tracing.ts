/** One span, one metric and one log line for each request. */
import { type Context, context, type Span, SpanKind, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import type { FastifyInstance } from 'fastify';
import type { Metrics } from '../telemetry/metrics.ts';
import { contextFromTraceparent } from '../telemetry/traces.ts';

declare module 'fastify' {
  interface FastifyRequest {
    trace: { readonly span: Span; readonly context: Context } | null;
  }
}

const STATUS_CLASSES = ['2xx', '3xx', '4xx', '5xx'] as const;

/** Observes all routes that are registered afterwards; a `traceparent` header is continued. */
export function registerTracing(
  app: FastifyInstance,
  tracer: Tracer,
  metrics: Pick<Metrics, 'httpRequestDurationSeconds'>,
): void {
  app.decorateRequest('trace', null);

  app.addHook('onRequest', (request, _reply, done) => {
    const header = request.headers.traceparent;
    const route = request.routeOptions.url ?? 'unknown';
    const parent = contextFromTraceparent(typeof header === 'string' ? header : null);
    const attributes = { 'http.request.method': request.method, 'http.route': route };
    const span = tracer.startSpan(`${request.method} ${route}`, { kind: SpanKind.SERVER, attributes }, parent);
    request.trace = { span, context: trace.setSpan(parent, span) };
    context.with(request.trace.context, done);
  });

  // Reading the body goes on in the socket's asynchronous context, where the span is not active: enter it again.
  app.addHook('preValidation', (request, _reply, done) => {
    context.with(request.trace?.context ?? context.active(), done);
  });

  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'unknown';
    const { method } = request;
    const status = STATUS_CLASSES[Math.floor(reply.statusCode / 100) - 2] ?? '5xx';
    metrics.httpRequestDurationSeconds.record(reply.elapsedTime / 1000, { method, route, status });
    const span = request.trace?.span;
    span?.setAttribute('http.response.status_code', reply.statusCode);
    if (reply.statusCode >= 500) span?.setStatus({ code: SpanStatusCode.ERROR });
    span?.end();
    request.log.info(
      {
        method,
        route,
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime),
        principal: request.principal?.id,
      },
      'request',
    );
    done();
  });
}
