/** docs/errors.md lists exactly the codes of the table. `FERRY_WRITE_DOCS=1 node --test test/unit/kernel/errors.test.ts` rewrites it. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { coerceError, describeError, ERRORS, FerryError } from '../../../src/kernel/errors.ts';

const PAGE = join(import.meta.dirname, '..', '..', '..', 'docs', 'errors.md');

function renderErrors(): string {
  const rows = Object.entries(ERRORS)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([code, { status, retryable, remedy }]) =>
        `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${remedy} |`,
    );
  return `# Errors

Every error that a user, a client or an operator can meet has one of these codes: in the log as \`err.code\`, over HTTP as the problem's
\`code\`, in the dead-letter header \`error_code\`. "Retry" says whether the same thing may succeed later without anybody changing anything.
This page is written from the table in \`src/kernel/errors.ts\`; a test holds both together.

| Code | HTTP | Retry | What to do |
|---|---|---|---|
${rows.join('\n')}
`;
}

describe('errors', () => {
  test('docs/errors.md says what the table says', () => {
    if (process.env.FERRY_WRITE_DOCS === '1') writeFileSync(PAGE, renderErrors());
    const same = readFileSync(PAGE, 'utf8') === renderErrors();
    assert.ok(
      same,
      'docs/errors.md is not what the table says: FERRY_WRITE_DOCS=1 node --test test/unit/kernel/errors.test.ts',
    );
  });

  test('a client is told to wait exactly where waiting helps', () => {
    for (const [code, { status, retryable }] of Object.entries(ERRORS)) {
      if (status === 503) assert.ok(retryable, `${code} answers 503`);
      if ([400, 401, 403, 404, 413].includes(status)) assert.ok(!retryable, `${code} answers ${status}`);
    }
  });

  test('an error carries what its table entry says, its details and its cause', () => {
    const cause = new Error('refused');
    const error = new FerryError('PART_UNREACHABLE', 'Kafka at host:1 does not answer', {
      cause,
      details: { part: 'kafka' },
    });
    assert.equal(error.status, 503);
    assert.equal(error.retryable, true);
    assert.equal(error.remedy, ERRORS.PART_UNREACHABLE.remedy);
    assert.deepEqual(error.details, { part: 'kafka' });
    assert.equal(error.cause, cause);
  });

  test('whatever is thrown becomes an error once', () => {
    const error = new Error('x');
    assert.equal(coerceError(error), error);
    assert.match(coerceError('text').message, /non-error.*text/);
    assert.match(coerceError(undefined).message, /undefined/);
  });

  test('a description goes down the causes, into an aggregate, and ends', () => {
    const inner = new Error('inner', { cause: new AggregateError([new Error('first'), new Error('second')]) });
    assert.equal(describeError(new Error('outer', { cause: inner })), 'outer: inner: AggregateError: first');
    const loop = new Error('loop');
    loop.cause = loop;
    assert.equal(describeError(loop), 'loop: loop: loop: loop: loop');
  });
});
