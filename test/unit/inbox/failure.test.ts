/** What errors mean for the event whose handler threw them: another try, none, or that it is not the event's fault. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { classify, type Failure, HandlerTimeoutError, NonRetryableError } from '../../../src/inbox/failure.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

const coded = (code: string | number, message = 'no') => Object.assign(new Error(message), { code });
const answered = (status: number) => Object.assign(new Error('no'), { status });
const wrapped = (cause: unknown) => new Error('Failed query', { cause });
const fetchFailed = (cause?: unknown) => new TypeError('fetch failed', cause === undefined ? {} : { cause });

type Row = readonly [what: string, thrown: unknown, kind: Failure['kind'], code: string];

const HANDLER: readonly Row[] = [
  ['an unknown error', new Error('no'), 'transient', 'UNEXPECTED'],
  ['no error at all', 'no', 'transient', 'UNEXPECTED'],
  ['a time-out', new HandlerTimeoutError(5), 'transient', 'UNEXPECTED'],
  ['what the handler says is final', new NonRetryableError('no'), 'permanent', 'UNEXPECTED'],
  [
    'what it says is final, with a cause that is not',
    new NonRetryableError('no', { cause: coded('40001') }),
    'permanent',
    '40001',
  ],
  // SQLSTATE, by class
  ['data', coded('22P02'), 'permanent', '22P02'],
  ['a constraint', coded('23505'), 'permanent', '23505'],
  ['syntax or a missing table', coded('42P01'), 'permanent', '42P01'],
  ['cardinality', coded('21000'), 'permanent', '21000'],
  ['a feature that is missing', coded('0A000'), 'permanent', '0A000'],
  ['a view check', coded('44000'), 'permanent', '44000'],
  ['raise exception', coded('P0001'), 'transient', 'P0001'],
  ['a deadlock', coded('40P01'), 'transient', '40P01'],
  ['a serialization failure', coded('40001'), 'transient', '40001'],
  ['a full disk', coded('53100'), 'transient', '53100'],
  ['a statement time-out', coded('57014'), 'transient', '57014'],
  ['a lock that was not free', coded('55P03'), 'transient', '55P03'],
  // HTTP
  ...[408, 425, 429, 500, 502, 503, 504].map(
    (status): Row => [`HTTP ${status}`, answered(status), 'transient', `HTTP_${status}`],
  ),
  ...[400, 401, 403, 404, 409, 410, 422, 501].map(
    (status): Row => [`HTTP ${status}`, answered(status), 'permanent', `HTTP_${status}`],
  ),
  ['a client that says statusCode', Object.assign(new Error('no'), { statusCode: 404 }), 'permanent', 'HTTP_404'],
  [
    'a client with a code of its own',
    Object.assign(answered(404), { code: 'ERR_BAD_REQUEST' }),
    'permanent',
    'ERR_BAD_REQUEST',
  ],
  ['a status that is none', answered(7), 'transient', 'UNEXPECTED'],
  // fetch, Node
  ['fetch without a connection', fetchFailed(coded('ECONNREFUSED')), 'transient', 'ECONNREFUSED'],
  ['fetch cut off', fetchFailed(coded('UND_ERR_SOCKET')), 'transient', 'UND_ERR_SOCKET'],
  ['fetch that was told nonsense', fetchFailed(), 'permanent', 'UNEXPECTED'],
  ['a time-out of fetch', new DOMException('no', 'TimeoutError'), 'transient', '23'],
  ['a socket', coded('ECONNRESET'), 'transient', 'ECONNRESET'],
  ['a file that is missing', coded('ENOENT'), 'transient', 'ENOENT'],
  ['a code of five capitals that is no SQLSTATE', coded('EPIPE'), 'transient', 'EPIPE'],
  // mistakes in the code
  ['a TypeError', new TypeError('no'), 'permanent', 'UNEXPECTED'],
  ['a RangeError', new RangeError('no'), 'permanent', 'UNEXPECTED'],
  ['a SyntaxError', new SyntaxError('no'), 'permanent', 'UNEXPECTED'],
  ['a ReferenceError', new ReferenceError('no'), 'permanent', 'UNEXPECTED'],
  // Ferry's own
  ['a FerryError that may pass', new FerryError('OVERLOADED', 'no'), 'transient', 'OVERLOADED'],
  ['a FerryError that will not', new FerryError('BUSINESS_RULE', 'no'), 'permanent', 'BUSINESS_RULE'],
  [
    'a registry that a handler asked',
    new FerryError('REGISTRY_UNAVAILABLE', 'no'),
    'transient',
    'REGISTRY_UNAVAILABLE',
  ],
  // wrapped
  ['a wrapped constraint', wrapped(coded('23503')), 'permanent', '23503'],
  ['a wrapped deadlock', wrapped(wrapped(coded('40P01'))), 'transient', '40P01'],
  ['a wrapped HTTP answer', wrapped(answered(422)), 'permanent', 'HTTP_422'],
  ['a wrapped mistake', wrapped(new TypeError('no')), 'transient', 'UNEXPECTED'],
  [
    'a mistake met while another error was handled',
    new TypeError('no', { cause: coded('40P01') }),
    'transient',
    '40P01',
  ],
  // codes that are none
  ['a code with a NUL', coded('a\0b'), 'transient', 'UNEXPECTED'],
  ['a code that is a text', coded('the order 17 of Ada is gone'), 'transient', 'UNEXPECTED'],
  ['a number', coded(14), 'transient', '14'],
];

/** Only through the transaction they mean that Postgres, or the registry, is away. */
const AWAY: readonly Row[] = [
  ['a refused connection', coded('ECONNREFUSED'), 'away', 'ECONNREFUSED'],
  ['a reset one', coded('ECONNRESET'), 'away', 'ECONNRESET'],
  ['one that pg lost', new Error('Connection terminated unexpectedly'), 'away', 'UNEXPECTED'],
  ['a pool that found none', new Error('timeout exceeded when trying to connect'), 'away', 'UNEXPECTED'],
  ['a server that shuts down', coded('57P01'), 'away', '57P01'],
  ['a server that starts', coded('57P03'), 'away', '57P03'],
  ['any connection exception', coded('08006'), 'away', '08006'],
  ['a wrapped one', wrapped(wrapped(coded('57P01'))), 'away', '57P01'],
  ['a registry', new FerryError('REGISTRY_UNAVAILABLE', 'no'), 'away', 'REGISTRY_UNAVAILABLE'],
  ['but not a constraint', coded('23505'), 'permanent', '23505'],
  ['nor a statement time-out', coded('57014'), 'transient', '57014'],
  ['nor a database that is full', coded('53300'), 'transient', '53300'],
];

describe('an error of a handler', () => {
  for (const [what, thrown, kind, code] of HANDLER) {
    test(`${what} is ${kind}`, () => {
      const failure = classify(thrown, false);
      assert.deepEqual([failure.kind, failure.code], [kind, code]);
    });
  }

  test('is never that a part of ours is away unless it came through the transaction', () => {
    for (const [what, thrown, kind] of AWAY) {
      if (kind === 'away') assert.equal(classify(thrown, false).kind, 'transient', what);
    }
  });

  test('keeps its name, message and stack', () => {
    const error = new HandlerTimeoutError(5);
    const { type, message, stack } = classify(error, false);
    assert.deepEqual(
      [type, message, stack],
      ['HandlerTimeoutError', 'the handler did not end within 5 ms', error.stack],
    );
  });

  test('with causes in a circle is judged all the same', () => {
    const error = new Error('a');
    error.cause = new Error('b', { cause: error });
    assert.equal(classify(error, true).kind, 'transient');
  });
});

describe('an error of the transaction', () => {
  for (const [what, thrown, kind, code] of AWAY) {
    test(`${what}: ${kind}`, () => {
      const failure = classify(thrown, true);
      assert.deepEqual([failure.kind, failure.code], [kind, code]);
    });
  }

  test('is told in its own words when it is logged, not in those of what wraps it', () => {
    const failure = classify(
      new Error('Failed query: insert … values (Ada)', { cause: coded('57P01', 'terminated') }),
      true,
    );
    assert.equal(failure.message, 'terminated');
  });
});
