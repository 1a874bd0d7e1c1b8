/**
 * Structured logs: one JSON object a line, pretty on a terminal. Two things never reach a line: secrets, and values out of events.
 * Postgres quotes row values in an error's `detail`, and in the message of a data exception, so errors are written by a serializer of
 * our own and not with all the fields that they carry.
 */
import { createRequire } from 'node:module';
import type { Writable } from 'node:stream';
import { isSpanContextValid, trace } from '@opentelemetry/api';
import { type Logger, pino } from 'pino';
import type { Config } from '../config/variables.ts';
import { coerceError, FerryError } from '../kernel/errors.ts';

export type { Logger } from 'pino';

const require = createRequire(import.meta.url);

const SECRET_NAMES = [
  'password',
  'secret',
  'token',
  'authorization',
  'apiKey',
  'connectionString',
  'DATABASE_URL',
  'SCHEMA_REGISTRY_URL',
  'IDEMPOTENCY_KEY_SECRET',
];
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@"]*):[^\s/@"]+@/gi;
const SQLSTATE_DATA_EXCEPTION = /^22[0-9A-Z]{3}$/;
const MAX_CAUSES = 5;

export interface LoggerOptions {
  /** Stands in every line. */
  readonly role: string;
  /** Where lines go; standard output by default. */
  readonly destination?: Writable;
}

/** Makes the logger of a process; parts take children of it (`logger.child({ part: 'relay' })`). */
export function createLogger(config: Pick<Config, 'LOG_LEVEL' | 'LOG_FORMAT'>, options: LoggerOptions): Logger {
  const pretty = config.LOG_FORMAT === 'pretty' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY === true);
  const target = options.destination ?? pino.destination({ dest: 1, sync: true });
  const destination = pretty ? loadPretty()({ colorize: process.stdout.isTTY === true, destination: target }) : target;
  return pino(
    {
      level: config.LOG_LEVEL,
      base: { pid: process.pid, role: options.role },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_NAMES.flatMap((name) => [name, `*.${name}`]), censor: '***' },
      serializers: { err: serializeError },
      hooks: { streamWrite: maskPasswords },
      mixin: traceFields,
    },
    destination,
  );
}

/** Its forty files are read only where somebody looks on. */
function loadPretty() {
  return (require('pino-pretty') as typeof import('pino-pretty')).PinoPretty;
}

/** Takes passwords out of any URL in a line, wherever it came from (a driver's message, a stack). */
export function maskPasswords(line: string): string {
  return line.includes('://') ? line.replace(URL_PASSWORD, '$1:***@') : line;
}

interface SerializedError {
  readonly type: string;
  readonly message: string;
  readonly stack: string;
  readonly code?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: SerializedError;
}

/** What a log line says of an error: class, code, message, stack and causes; no other field that a driver put on it. */
export function serializeError(thrown: unknown, depth = 0): SerializedError {
  const error = coerceError(thrown);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const message =
    code !== undefined && SQLSTATE_DATA_EXCEPTION.test(code)
      ? `Postgres data exception ${code}; its text is withheld because it quotes the value`
      : error.message;
  const frames = (error.stack ?? '').split('\n').filter((line) => line.startsWith('    at '));
  const inner = error.cause ?? (error instanceof AggregateError ? error.errors[0] : undefined);
  return {
    type: error.name,
    message,
    stack: frames.join('\n'),
    ...(code === undefined ? {} : { code }),
    ...(error instanceof FerryError ? { details: error.details } : {}),
    ...(inner === undefined || depth >= MAX_CAUSES ? {} : { cause: serializeError(inner, depth + 1) }),
  };
}

function traceFields(): Record<string, string> {
  const span = trace.getActiveSpan()?.spanContext();
  return span === undefined || !isSpanContextValid(span) ? {} : { trace_id: span.traceId, span_id: span.spanId };
}
