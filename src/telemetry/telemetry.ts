/**
 * Telemetry of one process: logger, metrics and tracer, made at start and passed to the parts. Put together from the OpenTelemetry
 * SDK's own providers and not by its NodeSDK class, which can only register global singletons (two relays in one test process would
 * share their metrics) and loads every exporter there is (230 ms of a process's start on the development machine, against 120 ms).
 * Nothing leaves the process unless OTEL_EXPORTER_OTLP_ENDPOINT is set; metrics can always be scraped as text.
 */
import { type Attributes, context, DiagLogLevel, diag, ProxyTracerProvider, type Tracer } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  defaultResource,
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  type IMetricReader,
  MeterProvider,
  MetricReader,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, type SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { ATTR_SERVICE_NAME, ATTR_SERVICE_VERSION } from '@opentelemetry/semantic-conventions';
import type { Config } from '../config/variables.ts';
import { withDeadline } from '../kernel/deadline.ts';
import { FERRY_VERSION } from '../kernel/version.ts';
import { createLogger, type Logger, type LoggerOptions } from './logger.ts';
import { createMetrics, type Metrics } from './metrics.ts';

const FLUSH_TIMEOUT_MS = 3_000;

export interface Telemetry {
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The same, with these labels on every value: a process may run several of what records them. */
  metricsWith(labels: Attributes): Metrics;
  readonly tracer: Tracer;
  /** The same where spans go somewhere; otherwise one that makes none and hands the parent on. For spans that are made for each event. */
  readonly eventTracer: Tracer;
  /** All metrics in Prometheus's text format 0.0.4. */
  metricsText(): Promise<string>;
  /** Hands over what is buffered, for 3 s at most, and stops. Never rejects: telemetry must not fail a clean stop. */
  shutdown(): Promise<void>;
}

export interface TelemetryOptions extends LoggerOptions {
  /** Where spans go beside OTLP; a test may collect them here. */
  readonly spanProcessors?: readonly SpanProcessor[];
}

type TelemetryConfig = Pick<Config, 'LOG_LEVEL' | 'LOG_FORMAT' | 'OTEL_EXPORTER_OTLP_ENDPOINT'>;

/** A reader that collects when it is asked to: `/metrics` is one of Fastify's routes, so the exporter's own server is not wanted. */
class ScrapeReader extends MetricReader {
  protected override async onShutdown(): Promise<void> {}
  protected override async onForceFlush(): Promise<void> {}
}

/** Starts telemetry. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are honoured; the service's name is `ferry` by default. */
export async function startTelemetry(config: TelemetryConfig, options: TelemetryOptions): Promise<Telemetry> {
  const logger = createLogger(config, options);
  // Asynchronous context is the process's by nature; registering it a second time is refused by the API and changes nothing.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const resource = describeProcess(options.role);
  const otlp = await otlpExport(config.OTEL_EXPORTER_OTLP_ENDPOINT, logger);
  const scrape = new ScrapeReader();
  const meters = new MeterProvider({ resource, readers: [scrape, ...otlp.readers] });
  const spanProcessors = [...(options.spanProcessors ?? []), ...otlp.spanProcessors];
  const tracers = new TracerProvider({ resource, spanProcessors });
  const tracer = tracers.getTracer('ferry', FERRY_VERSION);
  const meter = meters.getMeter('ferry', FERRY_VERSION);
  return {
    logger,
    metrics: createMetrics(meter),
    metricsWith: (labels) => createMetrics(meter, labels),
    tracer,
    eventTracer: spanProcessors.length > 0 ? tracer : new ProxyTracerProvider().getTracer('ferry'),
    async metricsText() {
      const { PrometheusSerializer } = await import('@opentelemetry/exporter-prometheus'); // not all processes are scraped
      const { resourceMetrics } = await scrape.collect();
      return new PrometheusSerializer('', false, undefined, true, true).serialize(resourceMetrics);
    },
    async shutdown() {
      const stopped = Promise.allSettled([meters.shutdown(), tracers.shutdown()]);
      await withDeadline('flushing telemetry', FLUSH_TIMEOUT_MS, stopped).catch((error: unknown) => {
        logger.warn({ err: error }, 'telemetry was not flushed');
      });
    },
  };
}

function describeProcess(role: string): Resource {
  return defaultResource()
    .merge(
      resourceFromAttributes({
        [ATTR_SERVICE_NAME]: 'ferry',
        [ATTR_SERVICE_VERSION]: FERRY_VERSION,
        'ferry.role': role,
      }),
    )
    .merge(detectResources({ detectors: [envDetector] }));
}

/** Readers and processors that export over OTLP/HTTP; none, and none of their code loaded, when no endpoint is configured. */
async function otlpExport(
  endpoint: string | undefined,
  logger: Logger,
): Promise<{ readers: IMetricReader[]; spanProcessors: SpanProcessor[] }> {
  if (endpoint === undefined) return { readers: [], spanProcessors: [] };
  const [{ OTLPTraceExporter }, { OTLPMetricExporter }] = await Promise.all([
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/exporter-metrics-otlp-http'),
  ]);
  const report = (message: string) => logger.warn({ part: 'telemetry' }, message);
  const silent = () => {};
  diag.setLogger(
    { error: report, warn: report, info: silent, debug: silent, verbose: silent },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const base = endpoint.replace(/\/+$/, '');
  const metricExporter = new OTLPMetricExporter({ url: `${base}/v1/metrics` });
  return {
    readers: [new PeriodicExportingMetricReader({ exporter: metricExporter })],
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: `${base}/v1/traces` }) })],
  };
}
