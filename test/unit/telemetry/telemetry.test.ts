/** Metrics can be scraped, spans are made, two processes' worth of telemetry do not mix, and nothing leaves without an endpoint. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { context, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { startTelemetry, type Telemetry } from '../../../src/telemetry/telemetry.ts';
import { contextFromTraceparent, traceparentOf } from '../../../src/telemetry/traces.ts';
import { OtlpCollector } from '../../support/otlp-collector.ts';

const QUIET = { LOG_LEVEL: 'silent', LOG_FORMAT: 'json' } as const;

test('what was recorded can be scraped under its own name, with closed labels and no more', async () => {
  const telemetry = await startTelemetry(QUIET, { role: 'relay' });
  telemetry.metrics.slotLagBytes.record(512);
  telemetry.metrics.checkpointsTotal.add(2, { result: 'committed' });
  telemetry.metrics.stageDurationSeconds.record(0.002, { stage: 'encoded' });
  const text = await telemetry.metricsText();
  assert.match(text, /^ferry_slot_lag_bytes 512$/m);
  assert.match(text, /^ferry_checkpoints_total\{result="committed"\} 2$/m);
  assert.match(text, /^ferry_stage_duration_seconds_bucket\{stage="encoded",le="0\.002"\} 1$/m);
  assert.match(text, /^# TYPE ferry_slot_lag_bytes gauge$/m);
  await telemetry.shutdown();
});

test('every metric has the prefix, a meaning, and a unit in its name where it has one', async () => {
  const telemetry = await startTelemetry(QUIET, { role: 'relay' });
  const { metrics } = telemetry;
  for (const instrument of Object.values(metrics)) {
    if ('record' in instrument) instrument.record(1);
    else instrument.add(1);
  }
  const text = await telemetry.metricsText();
  const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => ({ name, type }));
  assert.equal(names.length, Object.keys(metrics).length);
  for (const { name, type } of names) {
    assert.match(name, /^ferry_[a-z_]+$/);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    const [, unit = ''] = new RegExp(`^# UNIT ${name} (.+)$`, 'm').exec(text) ?? [];
    if (unit === 's') assert.match(name, /_seconds$/);
    if (unit === 'By') assert.match(name, /_bytes(_total)?$/);
    assert.doesNotMatch(text, new RegExp(`^# HELP ${name} description missing`, 'm'));
  }
  await telemetry.shutdown();
});

test('two of them do not share metrics', async () => {
  const [one, two] = await Promise.all([startTelemetry(QUIET, { role: 'a' }), startTelemetry(QUIET, { role: 'b' })]);
  one.metrics.publishedEventsTotal.add(5);
  two.metrics.publishedEventsTotal.add(7);
  assert.match(await one.metricsText(), /^ferry_published_events_total 5$/m);
  assert.match(await two.metricsText(), /^ferry_published_events_total 7$/m);
  await Promise.all([one.shutdown(), two.shutdown()]);
});

test('two relays of one process share the metrics and not their values', async () => {
  const telemetry = await startTelemetry(QUIET, { role: 'relay' });
  for (const [relay, bytes] of [
    ['main', 512],
    ['main_payment', 7],
  ] as const) {
    // biome-ignore format: a table
    telemetry.metricsWith({ relay }).slotLagBytes.record(bytes);
    telemetry.metricsWith({ relay }).checkpointsTotal.add(bytes, { result: 'committed' });
  }
  const text = await telemetry.metricsText();
  assert.match(text, /^ferry_slot_lag_bytes\{relay="main"\} 512$/m);
  assert.match(text, /^ferry_slot_lag_bytes\{relay="main_payment"\} 7$/m);
  assert.match(text, /^ferry_checkpoints_total\{result="committed",relay="main_payment"\} 7$/m);
  assert.equal(text.match(/^# TYPE ferry_slot_lag_bytes gauge$/gm)?.length, 1);
  await telemetry.shutdown();
});

test('spans have ids and follow the asynchronous context though nothing is exported', async () => {
  const exporter = new InMemorySpanExporter();
  const telemetry = await startTelemetry(QUIET, {
    role: 'api',
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
  });
  await telemetry.tracer.startActiveSpan('outer', async (outer) => {
    await Promise.resolve();
    assert.equal(traceparentOf(context.active()), traceparentOf(outer));
    telemetry.tracer.startSpan('inner').end();
    outer.end();
  });
  assert.equal(trace.getActiveSpan(), undefined);
  const [inner, outer] = exporter.getFinishedSpans();
  assert.equal(inner?.parentSpanContext?.spanId, outer?.spanContext().spanId);
  assert.equal(outer?.resource.attributes['service.name'], 'ferry');
  await telemetry.shutdown();
});

test('spans of single events are made only where they go somewhere; otherwise the trace is handed on as it came', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const nowhere = await startTelemetry(QUIET, { role: 'consumers' });
  const exporter = new InMemorySpanExporter();
  const somewhere = await startTelemetry(QUIET, {
    role: 'consumers',
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
  });
  const spanOf = (telemetry: Telemetry) =>
    telemetry.eventTracer.startSpan('consume', {}, contextFromTraceparent(traceparent));
  assert.equal(traceparentOf(spanOf(nowhere)), traceparent);
  assert.equal(spanOf(nowhere).isRecording(), false);
  const span = spanOf(somewhere);
  assert.notEqual(traceparentOf(span), traceparent);
  span.end();
  assert.equal(exporter.getFinishedSpans().length, 1);
  await Promise.all([nowhere.shutdown(), somewhere.shutdown()]);
});

test('with an endpoint, traces and metrics go there at the latest at the end', async () => {
  const collector = await OtlpCollector.start();
  const settings = { ...QUIET, OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.endpoint}/` };
  const telemetry = await startTelemetry(settings, { role: 'relay' });
  telemetry.tracer.startSpan('ferry.publish').end();
  telemetry.metrics.publishedEventsTotal.add(1);
  await telemetry.shutdown();
  assert.deepEqual(
    collector.spans.map(({ name }) => name),
    ['ferry.publish'],
  );
  const metrics = collector.bodies.filter(({ path }) => path === '/v1/metrics');
  assert.match(metrics.at(-1)?.text ?? '', /ferry_published_events_total/);
  collector.close();
});

test('a collector that is away fails nothing', async () => {
  const OTEL_EXPORTER_OTLP_ENDPOINT = 'http://127.0.0.1:9';
  const telemetry = await startTelemetry({ ...QUIET, OTEL_EXPORTER_OTLP_ENDPOINT }, { role: 'relay' });
  telemetry.tracer.startSpan('x').end();
  await telemetry.shutdown();
});
