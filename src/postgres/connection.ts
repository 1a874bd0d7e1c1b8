/**
 * How Ferry connects to Postgres: one place that turns DATABASE_URL into a client's configuration (verified TLS by default, bounded
 * waits, UTC) and decides which values come back as what. Every connection, pooled or for replication, starts from here.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import pg from 'pg';
import { type DatabaseConfig, variableOf } from '../config/databases.ts';
import type { VariableName } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';

/** What a statement can be run on: a pool, a client, or the transaction that a caller passes in. */
export interface Queryable {
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<{ rows: R[]; rowCount: number | null }>;
}

/** A pool, for those who only pass it on: pg itself is imported in this folder alone. */
export type Pool = pg.Pool;

/** `own` says which variable the address came from. */
export type ConnectionSettings = Pick<DatabaseConfig, 'DATABASE_URL' | 'POSTGRES_TLS' | 'own'>;

const CONNECT_TIMEOUT_MS = 5_000;
const KEEPALIVE_DELAY_MS = 10_000;

/**
 * Configuration of a client. `applicationName` is what pg_stat_activity shows.
 * Throws CONFIG_INVALID, naming the variable, if the address is missing or says something that Ferry would silently ignore.
 */
export function clientConfig(config: ConnectionSettings, applicationName: string): pg.ClientConfig {
  const variable = variableOf(config.own);
  const url = parseDatabaseUrl(variable, config.DATABASE_URL);
  // postgres:///db?host=/run/postgresql is libpq's way to name a socket directory
  const host =
    url.searchParams.get('host') ?? (decodeURIComponent(url.hostname.replace(/^\[|\]$/g, '')) || 'localhost');
  const own = url.searchParams.get('options');
  return {
    host,
    port: url.port === '' ? 5432 : Number(url.port),
    user: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    database: decodeURIComponent(url.pathname.slice(1)) || undefined,
    ssl: tlsOptions(config.POSTGRES_TLS, host, url.searchParams.get('sslrootcert'), variable),
    application_name: applicationName,
    // Timestamps and bytea are read as text: their form must not depend on a server's, a database's or a role's settings.
    options: `-c timezone=UTC -c datestyle=ISO -c bytea_output=hex${own === null ? '' : ` ${own}`}`,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
    types: { getTypeParser },
  };
}

const URL_PARAMETERS = new Set(['host', 'options', 'sslrootcert', 'sslmode']);

function parseDatabaseUrl(variable: VariableName, text: string | undefined): URL {
  const invalidUrl = (problem: string) => invalid(variable, problem);
  let url: URL;
  try {
    // An empty host is legal for libpq and not for WHATWG URLs.
    url = new URL((text ?? '').replace(/^(postgres(?:ql)?:\/\/(?:[^/@]*@)?)(?=\/)/, '$1localhost'));
  } catch {
    throw invalidUrl('is not a URL; it takes postgres://user:password@host:port/database');
  }
  if (!/^postgres(ql)?:$/.test(url.protocol)) throw invalidUrl('must start with postgres://');
  for (const [name, value] of url.searchParams) {
    if (!URL_PARAMETERS.has(name)) throw invalidUrl(`has the parameter ${name}, which Ferry does not know`);
    if (name === 'sslmode' && value !== 'verify-full') {
      throw invalidUrl(`has sslmode=${value}; TLS is verified or off: leave it out and set POSTGRES_TLS`);
    }
  }
  return url;
}

function invalid(variable: VariableName, problem: string, cause?: unknown): FerryError {
  return new FerryError('CONFIG_INVALID', `${variable} ${problem}`, { cause, details: { variable } });
}

/** Sockets and loopback addresses; nothing else may go without TLS by itself. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('/') || /^127(\.\d{1,3}){3}$/.test(host);
}

function tlsOptions(
  setting: ConnectionSettings['POSTGRES_TLS'],
  host: string,
  rootCertificate: string | null,
  variable: VariableName,
): pg.ClientConfig['ssl'] {
  if (setting === 'off' || (setting === 'auto' && isLoopback(host))) return false;
  try {
    return {
      rejectUnauthorized: true,
      ...(rootCertificate === null ? {} : { ca: readFileSync(rootCertificate, 'utf8') }),
    };
  } catch (cause) {
    throw invalid(variable, `names the sslrootcert ${rootCertificate}, which cannot be read`, cause);
  }
}

/**
 * int8 becomes a bigint and timestamptz RFC 3339 text in UTC with microseconds: the defaults of pg (text; a Date that stops at
 * milliseconds) lose type or digits. numeric stays text. jsonb is parsed as pg does: where digits matter, select `payload::text`.
 */
function getTypeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  if (format !== 'binary' && oid === pg.types.builtins.INT8) return BigInt;
  if (format !== 'binary' && oid === pg.types.builtins.TIMESTAMPTZ) return timestampFromPostgres;
  return pg.types.getTypeParser(oid, format as 'text');
}

const SPACE = 0x20;
const DOT = 0x2e;

/** `2026-01-02 03:04:05.6+00` → `2026-01-02T03:04:05.600000Z`. `infinity` and years before Christ are left as they are. */
export function timestampFromPostgres(text: string): string {
  // The usual form, without a regular expression: the relay reads two of these an event.
  if (text.charCodeAt(10) === SPACE && text.charCodeAt(19) === DOT && text.endsWith('+00')) {
    return `${text.slice(0, 10)}T${text.slice(11, 19)}.${text.slice(20, -3).padEnd(6, '0')}Z`;
  }
  const match = /^(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00$/.exec(text);
  return match === null ? text : `${match[1]}T${match[2]}.${(match[3] ?? '').padEnd(6, '0')}Z`;
}

const END_TIMEOUT_MS = 1_000;

/**
 * Ends a client politely; a socket that has not closed after a second is destroyed, so that a server that vanished cannot hold up whoever
 * closes. pg waits for the other side to close, which can be a quarter of an hour.
 */
export async function endClient(client: pg.Client): Promise<void> {
  const force = setTimeout(() => socketOf(client).destroy(), END_TIMEOUT_MS);
  try {
    await client.end();
  } finally {
    clearTimeout(force);
  }
}

/** The socket of a connected client: private to pg, and pinned by test/unit/postgres/serial-client.test.ts. */
export function socketOf(client: pg.Client): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream;
}

export interface PoolSettings {
  /** Most connections. */
  readonly max: number;
  /** A statement that takes longer is cancelled by the server. */
  readonly statementTimeoutMs: number;
  /** Called for connections that die while idle; without a listener they would end the process. */
  readonly onIdleError: (error: Error) => void;
}

/** A pool of at most `max` connections (default 10). Waiting for a free one ends after the connect time-out. */
export function createPool(
  config: ConnectionSettings,
  applicationName: string,
  settings: Partial<PoolSettings> = {},
): pg.Pool {
  const statementTimeoutMs = settings.statementTimeoutMs ?? 30_000;
  const pool = new pg.Pool({
    ...clientConfig(config, applicationName),
    max: settings.max ?? 10,
    idleTimeoutMillis: 30_000,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: statementTimeoutMs,
  });
  pool.on('error', settings.onIdleError ?? (() => {}));
  // A connection that breaks while it is checked out fails the query in flight, and then emits `error` on the client, where nobody
  // listens: that would end the process.
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}
