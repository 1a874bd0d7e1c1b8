/** What a log line says, and what it must never say: secrets, and values out of events. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { FerryError } from '../../../src/kernel/errors.ts';
import { createLogger, maskPasswords, serializeError } from '../../../src/telemetry/logger.ts';
import { waitUntil } from '../../support/signals.ts';

const CANARY = 'canary-7f3a';

/** `lines` holds each line as soon as it is logged. */
function capture(settings: Partial<Parameters<typeof createLogger>[0]> = {}) {
  const lines: string[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const logger = createLogger({ LOG_LEVEL: 'info', LOG_FORMAT: 'json', ...settings }, { role: 'relay', destination });
  return { logger, lines };
}

test('a line is one JSON object with time, level, role and message', () => {
  const { logger, lines } = capture();
  logger.child({ part: 'kafka' }).info({ batch: 3 }, 'sent');
  assert.equal(lines.length, 1);
  const { time, pid, ...rest } = JSON.parse(lines[0] ?? '');
  assert.deepEqual(rest, { level: 'info', role: 'relay', part: 'kafka', batch: 3, msg: 'sent' });
  assert.equal(pid, process.pid);
  assert.equal(new Date(time).toISOString(), time);
});

test('lines below the level are not written', () => {
  const { logger, lines } = capture({ LOG_LEVEL: 'warn' });
  logger.info('no');
  logger.warn('yes');
  assert.equal(lines.length, 1);
});

test('secrets by name are masked, at the top and one below', () => {
  const { logger, lines } = capture();
  logger.info(
    { password: CANARY, kafka: { password: CANARY, token: CANARY }, headers: { authorization: CANARY } },
    'x',
  );
  logger.info({ config: { DATABASE_URL: CANARY, IDEMPOTENCY_KEY_SECRET: CANARY, apiKey: CANARY } }, 'x');
  assert.doesNotMatch(lines.join(''), new RegExp(CANARY));
  assert.match(lines.join(''), /\*\*\*/);
});

test('a password in a URL is masked wherever it stands', () => {
  const { logger, lines } = capture();
  const url = `postgres://ferry:${CANARY}@db:5432/shop`;
  logger.warn({ err: new Error(`connecting to ${url} failed`), url, nested: { deep: [url] } }, `cannot reach ${url}`);
  assert.doesNotMatch(lines.join(''), new RegExp(CANARY));
  assert.match(lines.join(''), /postgres:\/\/ferry:\*\*\*@db:5432/);
  assert.equal(maskPasswords('http://host:80/a@b and mail me@x'), 'http://host:80/a@b and mail me@x');
});

test('an error keeps class, code, stack, details and causes', () => {
  const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
  const error = new FerryError('PART_UNREACHABLE', 'Kafka is away', { cause, details: { part: 'kafka' } });
  const written = serializeError(error);
  assert.equal(written.type, 'FerryError');
  assert.equal(written.code, 'PART_UNREACHABLE');
  assert.deepEqual(written.details, { part: 'kafka' });
  assert.match(written.stack, /^ {4}at /);
  assert.equal(written.cause?.code, 'ECONNREFUSED');
  assert.equal(serializeError('thrown text').message, 'a non-error was thrown: thrown text');
});

test('what Postgres quotes of a row is not written', () => {
  const { logger, lines } = capture();
  const unique = Object.assign(new Error('duplicate key value violates unique constraint "orders_pkey"'), {
    code: '23505',
    detail: `Key (id)=(${CANARY}) already exists.`,
    where: CANARY,
    parameters: [CANARY],
  });
  const malformed = Object.assign(new Error(`invalid input syntax for type json: "${CANARY}"`), { code: '22P02' });
  logger.error({ err: new Error('insert failed', { cause: unique }) }, 'x');
  logger.error({ err: malformed }, 'x');
  assert.doesNotMatch(lines.join(''), new RegExp(CANARY));
  assert.match(lines.join(''), /orders_pkey/);
  assert.match(lines.join(''), /22P02/);
});

test('causes that go round end', () => {
  const error = new Error('round');
  error.cause = error;
  assert.ok(JSON.stringify(serializeError(error)).length < 20_000);
});

test('pretty lines hide the same', async () => {
  const { logger, lines } = capture({ LOG_FORMAT: 'pretty' });
  logger.info({ password: CANARY, url: `http://u:${CANARY}@h/` }, 'hello');
  await waitUntil('the line', () => lines.length > 0);
  assert.match(lines.join(''), /INFO.*hello/);
  assert.doesNotMatch(lines.join(''), new RegExp(CANARY));
});
