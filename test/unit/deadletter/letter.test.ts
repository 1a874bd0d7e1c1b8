/** A record of a dead-letter topic as a letter: the relay's, a group's, and whatever else may stand there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { boundedCode } from '../../../src/deadletter/bounded-code.ts';
import { readLetter } from '../../../src/deadletter/letter.ts';
import { deadLetterHeaders } from '../../../src/events/dead-letter.ts';
import type { LogRecord } from '../../../src/kafka/log-reader.ts';
import { ERRORS } from '../../../src/kernel/errors.ts';

const ID = '019b7c5e-8c00-7000-8000-000000000001';
const AT = '2026-01-02T03:04:05.678Z';
const cause = {
  ...{ code: 'SCHEMA_MISMATCH', message: 'no', type: 'EncodeRefusal', retryCount: 2, maxRetries: 3 },
  ...{ firstFailedAt: AT, failedAt: AT, replayable: false },
};
const own = { ce_id: ID, ce_type: 'shop.Sold', tenant: 'a', ferry_recorded_at: '2026-01-02T03:04:05.123456Z' };

function record(headers: Record<string, string>, changes: Partial<LogRecord> = {}): LogRecord {
  const place = { topic: 'shop.dlq', partition: 1, offset: 7n, timestampMs: 1_000 };
  return { ...place, key: Buffer.from('k'), value: Buffer.from('{}'), headers, ...changes };
}

test('of the relay tells its place in the WAL, and keeps the headers that the original had', () => {
  const headers = { ...own, ...deadLetterHeaders(cause, { topic: 'shop', lsn: '0/1A', seq: 4 }, 'value') };
  const letter = readLetter(record(headers));
  assert.deepEqual(letter, {
    ...{
      group: null,
      eventId: ID,
      recordedAt: own.ferry_recorded_at,
      type: 'shop.Sold',
      sourceTopic: 'shop',
      sourcePosition: '0/1A/4',
    },
    ...{
      key: Buffer.from('k'),
      value: Buffer.from('{}'),
      headers: own,
      originalRecord: 'value',
      code: 'SCHEMA_MISMATCH',
    },
    ...{
      errorType: 'EncodeRefusal',
      errorMessage: 'no',
      errorStack: null,
      retryCount: 2,
      maxRetries: 3,
      firstFailedAt: AT,
      failedAt: AT,
    },
    ...{ replayable: false, blockedBy: null, topic: 'shop.dlq', partition: 1, offset: 7n },
  });
});

test('of a group is known by the topic that is named for it', () => {
  const source = { topic: 'shop', partition: 3, offset: '9' };
  const headers = { ...own, ...deadLetterHeaders(cause, source, 'value', { group: 'turnover', blockedBy: ID }) };
  const letter = readLetter(record(headers, { topic: 'turnover.dlq' }));
  assert.deepEqual([letter?.group, letter?.sourcePosition, letter?.blockedBy], ['turnover', '3/9', ID]);
  assert.equal(readLetter(record(headers))?.group, null, 'a writer’s own header says nothing');
});

test('is whatever has an envelope, whatever else is in it', () => {
  assert.equal(readLetter(record(own)), null);
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.string()),
      fc.array(fc.string(), { minLength: 11, maxLength: 11 }),
      (odd, texts) => {
        const [code = '', topic = '', ...rest] = texts;
        const names = [
          'ce_id',
          'failed_at',
          'first_failed_at',
          'retry_count',
          'blocked_by',
          'error_message',
          'source_offset',
          'ce_type',
          'ferry_recorded_at',
        ];
        const headers = {
          ...odd,
          ...Object.fromEntries(names.map((name, i) => [name, rest[i] ?? ''])),
          error_code: code,
          source_topic: topic,
        };
        const letter = readLetter(record(headers, { timestampMs: -1 }));
        assert.ok(letter !== null && !Number.isNaN(Date.parse(letter.failedAt)));
        for (const text of [letter.code, letter.sourceTopic, letter.errorMessage, letter.type, letter.blockedBy])
          assert.ok(!text?.includes('\u0000'));
      },
    ),
  );
});

test('codes are labels of a bounded number of values', () => {
  assert.deepEqual(['KEY_PARKED', '23505', 'HTTP_404', 'ECONNRESET', 'constructor'].map(boundedCode), ['KEY_PARKED', 'SQLSTATE', 'HTTP', 'OTHER', 'OTHER']); // biome-ignore format: one thought
  fc.assert(
    fc.property(fc.string(), (code) =>
      [...Object.keys(ERRORS), 'SQLSTATE', 'HTTP', 'OTHER'].includes(boundedCode(code)),
    ),
  );
});
