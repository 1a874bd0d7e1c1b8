/**
 * What an error of a handler means for its event: whether another try can help is data (SQLSTATE, error code, HTTP status), never the text of
 * a message.
 */
import { coerceError, FerryError } from '../kernel/errors.ts';
import { ferryErrorOf, sqlStateOf } from '../postgres/sqlstate.ts';

/** Thrown by a handler for what no further try can mend: the event is dead-lettered at once. */
export class NonRetryableError extends Error {
  override readonly name = 'NonRetryableError';
}

/** The handler did not end in time. */
export class HandlerTimeoutError extends Error {
  override readonly name = 'HandlerTimeoutError';
  constructor(timeoutMs: number) {
    super(`the handler did not end within ${timeoutMs} ms`);
  }
}

export interface Failure {
  /** `away`: a part of ours cannot be reached, which is no fault of the event: wait, without end. */
  readonly kind: 'away' | 'transient' | 'permanent';
  /** Class of the error, for grouping: its name. */
  readonly type: string;
  /** SQLSTATE, Node's or a library's code, HTTP status, Ferry's code, or UNEXPECTED. */
  readonly code: string;
  readonly message: string;
  readonly stack: string;
}

/**
 * SQLSTATE classes that the statement itself is to blame for: repeating it gives the same answer. Appendix A of the Postgres manual: data,
 * cardinality, constraints, syntax or access rule, view check.
 */
const PERMANENT_SQL = /^(20|21|22|23|42|44|0A)/;
/** HTTP: time-out, too early, too many requests, and what servers say while they are unwell (RFC 9110, 6585, 8470). */
const TRANSIENT_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);
/** A mistake in the code is the same at the next try. */
const PROGRAMMING_ERRORS = [TypeError, RangeError, ReferenceError, SyntaxError];

/**
 * What a handler threw. Object mappers and clients wrap errors in their own: the first of the error and its causes that says anything counts.
 * `viaTransaction`: it came out of the handler's own `tx`, so a lost connection is ours and not one of the handler's calls.
 */
export function classify(thrown: unknown, viaTransaction: boolean): Failure {
  const error = coerceError(thrown);
  const chain = withCauses(error);
  const away = viaTransaction ? chain.find(isAway) : undefined;
  return {
    kind: away !== undefined ? 'away' : isPermanent(chain) ? 'permanent' : 'transient',
    type: error.name,
    code: chain.map(codeOf).find((code) => code !== null) ?? 'UNEXPECTED',
    message: (away ?? error).message, // of a part that is away it is logged, and a wrapper's may quote values
    stack: error.stack ?? '',
  };
}

const MAX_CAUSES = 5;

function withCauses(error: Error): Error[] {
  const chain: Error[] = [];
  for (let next: unknown = error; next instanceof Error && chain.length <= MAX_CAUSES; next = next.cause)
    chain.push(next);
  return chain;
}

function isAway(error: Error): boolean {
  const code = ferryErrorOf(error)?.code;
  return code === 'PART_UNREACHABLE' || (error instanceof FerryError && error.code === 'REGISTRY_UNAVAILABLE');
}

/** What is not known is tried again, a bounded number of times. */
function isPermanent(chain: readonly Error[]): boolean {
  const verdict = chain.map(verdictOf).find((said) => said !== null);
  if (verdict !== undefined) return verdict === 'permanent';
  // fetch tells of a lost connection with a TypeError whose cause has a code
  const [error, ...causes] = chain;
  if (causes.some((cause) => codeOf(cause) !== null)) return false;
  return PROGRAMMING_ERRORS.some((mistake) => error instanceof mistake);
}

function verdictOf(error: Error): 'permanent' | 'transient' | null {
  if (error instanceof NonRetryableError) return 'permanent';
  if (error instanceof FerryError) return error.retryable ? 'transient' : 'permanent';
  const state = sqlStateOf(error);
  if (state !== undefined) return PERMANENT_SQL.test(state) ? 'permanent' : 'transient';
  const status = statusOf(error);
  if (status !== undefined) return status >= 400 && !TRANSIENT_STATUS.has(status) ? 'permanent' : 'transient';
  return null;
}

/** The HTTP status that clients put on their errors: `status` (fetch wrappers, Axios 1), `statusCode` (undici, got). */
function statusOf(error: Error): number | undefined {
  for (const name of ['status', 'statusCode'] as const) {
    const value = (error as Error & { status?: unknown; statusCode?: unknown })[name];
    if (typeof value === 'number' && value >= 100 && value <= 599) return value;
  }
  return undefined;
}

/** Only what looks like a code: it goes into a header and into a column. */
const CODE = /^[\w.:-]{1,64}$/;

function codeOf(error: Error): string | null {
  const code = 'code' in error && (typeof error.code === 'string' || typeof error.code === 'number') ? error.code : '';
  if (CODE.test(String(code))) return String(code);
  const status = statusOf(error);
  return status === undefined ? null : `HTTP_${status}`;
}
