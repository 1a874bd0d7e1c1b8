/** One trace over process borders: traceparent text there and back, and links from one to many. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { context, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import fc from 'fast-check';
import { contextFromTraceparent, linksTo, spanContextOf, traceparentOf } from '../../../src/telemetry/traces.ts';

const hex = (length: number) =>
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length })
    .filter((text) => !/^0+$/.test(text));

test('a traceparent names a span and is made of it again', () => {
  fc.assert(
    fc.property(hex(32), hex(16), fc.constantFrom('00', '01'), (traceId, spanId, flags) => {
      const text = `00-${traceId}-${spanId}-${flags}`;
      assert.equal(traceparentOf(contextFromTraceparent(text)), text);
      assert.equal(spanContextOf(text)?.isRemote, true);
    }),
  );
});

test('what is no traceparent leads nowhere and harms nothing', () => {
  const zeros = `00-${'0'.repeat(32)}-b7ad6b7169203331-01`;
  const others = [
    '',
    'x',
    zeros,
    `ff-${'a'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${'A'.repeat(32)}-b7ad6b7169203331-01`,
  ];
  for (const text of [null, undefined, ...others]) {
    assert.equal(spanContextOf(text), null);
    assert.equal(contextFromTraceparent(text), ROOT_CONTEXT);
  }
  assert.equal(traceparentOf(ROOT_CONTEXT), null);
  fc.assert(fc.property(fc.string(), (text) => assert.doesNotThrow(() => contextFromTraceparent(text))));
});

test('a span started from a traceparent continues its trace', async () => {
  const exporter = new InMemorySpanExporter();
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
  const tracer = provider.getTracer('test');
  const request = tracer.startSpan('request');
  const written = traceparentOf(request);
  request.end();
  const consumed = tracer.startSpan('consume', {}, contextFromTraceparent(written));
  assert.equal(traceparentOf(trace.setSpan(context.active(), consumed)), traceparentOf(consumed));
  consumed.end();
  const [first, second] = exporter.getFinishedSpans();
  assert.equal(second?.spanContext().traceId, first?.spanContext().traceId);
  assert.equal(second?.parentSpanContext?.spanId, first?.spanContext().spanId);
  await provider.shutdown();
});

test('links name each trace once, and no more than they may', () => {
  const traceparent = (index: number) => `00-${String(index).padStart(32, 'a')}-b7ad6b7169203331-01`;
  const many = Array.from({ length: 300 }, (_, index) => traceparent(index));
  assert.equal(linksTo(many).length, 128);
  assert.equal(linksTo([traceparent(1), null, traceparent(1), 'nonsense', traceparent(2)]).length, 2);
  assert.deepEqual(linksTo([]), []);
});
