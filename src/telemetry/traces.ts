/**
 * One trace from the HTTP request to the consumer. What joins its pieces is the W3C `traceparent` text: it stands in the outbox row
 * and in the record's headers. Source of the format: W3C Trace Context, level 1, section 3.2.
 */
import {
  type Context,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  trace,
} from '@opentelemetry/api';

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The `traceparent` of a span, or of the span that is active in a context; null when there is none. */
export function traceparentOf(source: Span | Context): string | null {
  const spanContext = 'spanContext' in source ? source.spanContext() : trace.getSpanContext(source);
  if (spanContext === undefined || !isSpanContextValid(spanContext)) return null;
  const flags = spanContext.traceFlags.toString(16).padStart(2, '0');
  return `00-${spanContext.traceId}-${spanContext.spanId}-${flags}`;
}

/** The remote span that a `traceparent` names; null for none or for text that is none: writers in SQL may put anything there. */
export function spanContextOf(traceparent: string | null | undefined): SpanContext | null {
  const match = TRACEPARENT.exec(traceparent ?? '');
  const spanContext: SpanContext =
    match === null
      ? INVALID_SPAN_CONTEXT
      : {
          traceId: match[1] ?? '',
          spanId: match[2] ?? '',
          traceFlags: Number.parseInt(match[3] ?? '0', 16),
          isRemote: true,
        };
  return isSpanContextValid(spanContext) ? spanContext : null;
}

/** A context whose parent is the named span, so that a span started in it continues the trace; the root context for none. */
export function contextFromTraceparent(traceparent: string | null | undefined): Context {
  const spanContext = spanContextOf(traceparent);
  return spanContext === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContext);
}

/**
 * Links from one span to the many that it serves: a Kafka transaction carries events of many requests. Each trace once, and not more
 * than `limit`, which is the SDK's own bound on links of a span.
 */
export function linksTo(traceparents: Iterable<string | null>, limit = 128): Link[] {
  const links = new Map<string, Link>();
  for (const traceparent of traceparents) {
    if (links.size === limit) break;
    if (traceparent === null || links.has(traceparent)) continue;
    const spanContext = spanContextOf(traceparent);
    if (spanContext !== null) links.set(traceparent, { context: spanContext });
  }
  return [...links.values()];
}
