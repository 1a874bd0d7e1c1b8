/**
 * What Postgres's error codes mean to Ferry: which may be retried, and which are errors of our own table. Class `OX` is ours: the
 * triggers and functions of migrations/ferry raise it (classes beginning with I–Z are free for implementations, SQL:2016 part 2 §24.1).
 */
import type { VariableName } from '../config/variables.ts';
import { type ErrorCode, FerryError } from '../kernel/errors.ts';

/** Raised by our own SQL; the message comes from there, names no payload, and carries the remedy as HINT. */
const OWN: Readonly<Record<string, ErrorCode>> = {
  OX001: 'EVENT_ID_INVALID',
  OX002: 'PARTITION_MISSING',
  OX003: 'OUTBOX_IMMUTABLE',
  OX004: 'EVENT_MALFORMED',
};

/** Codes of Postgres that say something to Ferry's users; the message is ours, for Postgres's may quote values. `$address` is a variable's name. */
const FOREIGN: Readonly<Record<string, { code: ErrorCode; message: string }>> = {
  '22007': { code: 'INVALID_REQUEST', message: 'a date or time cannot be read' },
  '22008': { code: 'INVALID_REQUEST', message: 'a date or time does not exist' },
  '22021': { code: 'INVALID_REQUEST', message: 'a text holds a character that Postgres cannot store, such as U+0000' },
  '22P05': {
    code: 'INVALID_REQUEST',
    message: 'a JSON text holds a character that Postgres cannot store, such as U+0000',
  },
  '28000': { code: 'PART_UNREACHABLE', message: 'Postgres refuses the user of $address' },
  '28P01': { code: 'PART_UNREACHABLE', message: 'Postgres refuses the user or the password of $address' },
  '3D000': { code: 'PART_UNREACHABLE', message: 'the database of $address does not exist' },
  '53300': { code: 'OVERLOADED', message: 'Postgres has no connection left' },
  '55P03': { code: 'OVERLOADED', message: 'a lock was not free in time' },
  '57014': { code: 'OVERLOADED', message: 'a statement took longer than its time-out' },
  '57P01': { code: 'PART_UNREACHABLE', message: 'Postgres ended the connection' },
  '57P03': { code: 'PART_UNREACHABLE', message: 'Postgres is starting or stopping' },
};

/** The whole transaction may be run again at once: it was rolled back because of others, not because of itself. */
const RETRYABLE_TRANSACTION = new Set(['40001', '40P01']);

const SOCKET_ERRORS = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
]);

/** The SQLSTATE of an error from Postgres, or undefined for any other value (every SQLSTATE has a digit; EPIPE has none). */
export function sqlStateOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** lock_not_available: `lock_timeout` was over before the lock was free. */
export function isLockTimeout(error: unknown): boolean {
  return sqlStateOf(error) === '55P03';
}

/** It is the data that Postgres cannot take, now or ever: data exceptions, program limits (a key too long for its index), a check that does not hold. */
export function isDataError(error: unknown): boolean {
  return /^(22|54|23514$)/.test(sqlStateOf(error) ?? '');
}

export function isRetryableTransaction(error: unknown): boolean {
  return RETRYABLE_TRANSACTION.has(sqlStateOf(error) ?? '') || isOutdatedPlan(error);
}

/**
 * A prepared statement whose result has got other columns or types since, by a migration: it fails on its connection for ever, and on a new
 * one never. 0A000 says many things; the routine is the one that says this (plancache.c).
 */
export function isOutdatedPlan(error: unknown): boolean {
  return sqlStateOf(error) === '0A000' && (error as { routine?: string }).routine === 'RevalidateCachedQuery';
}

/**
 * The FerryError that a database error stands for, or undefined where it is none of ours and must stay what it is. `address` is the variable
 * that names the database.
 */
export function ferryErrorOf(error: unknown, address: VariableName = 'DATABASE_URL'): FerryError | undefined {
  if (error instanceof FerryError) return error;
  if (!(error instanceof Error)) return undefined;
  const state = sqlStateOf(error);
  if (state !== undefined && OWN[state] !== undefined)
    return new FerryError(OWN[state], error.message, { cause: error });
  if (state === '23514' && 'table' in error && String(error.table).startsWith('outbox')) {
    const rule = 'constraint' in error ? String(error.constraint) : 'a check';
    return new FerryError('EVENT_MALFORMED', `the event breaks the rule ${rule}`, { cause: error, details: { rule } });
  }
  if (state === '23505' && 'table' in error && String(error.table).startsWith('outbox')) {
    return new FerryError('CONFLICT', 'an event with this id is already in the outbox', { cause: error });
  }
  if (state !== undefined && FOREIGN[state] !== undefined) {
    const { code, message } = FOREIGN[state];
    return new FerryError(code, message.replace('$address', address), { cause: error });
  }
  const server = address === 'DATABASE_URL' ? 'Postgres' : `the Postgres of ${address}`;
  if (isCertificateError(error)) {
    return new FerryError('PART_UNREACHABLE', `the TLS certificate of ${server} is not accepted`, { cause: error });
  }
  if (isConnectionError(error))
    return new FerryError('PART_UNREACHABLE', `${server} cannot be reached`, { cause: error });
  return undefined;
}

function isConnectionError(error: Error): boolean {
  if (error instanceof AggregateError)
    return error.errors.some((inner) => inner instanceof Error && isConnectionError(inner));
  const state = sqlStateOf(error);
  if (state !== undefined) return state.startsWith('08');
  if ('code' in error && SOCKET_ERRORS.has(String(error.code))) return true;
  // pg has no codes for these; the texts are those of pg 8.23 and pg-pool 3
  return /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
    error.message,
  );
}

/** Codes of Node's and OpenSSL's verification, and what pg says of a server without TLS. */
function isCertificateError(error: Error): boolean {
  const code = 'code' in error ? String(error.code) : '';
  return (
    /^(ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/.test(code) ||
    error.message === 'The server does not support SSL connections'
  );
}
