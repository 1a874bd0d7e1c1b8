/** Outbox tuples: found by column name, every value kept whole, every flaw named by its column. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutboxRowDecoder, RowError } from '../../../src/wal/outbox-row.ts';
import { OUTBOX_COLUMNS, type OutboxRow, outboxRow, valuesOf } from '../../support/outbox-rows.ts';
import { tuple } from '../../support/pgoutput-bytes.ts';

function decoderFor(columns: readonly string[]): OutboxRowDecoder {
  return new OutboxRowDecoder({ id: 1, schema: 'ferry', table: 'outbox', columns });
}

function decode(row: OutboxRow, columns = OUTBOX_COLUMNS) {
  return decoderFor(columns).decode(tuple(valuesOf(row, columns)));
}

const WHOLE = {
  id: '019b7c5e-8c00-7000-8000-000000000001',
  aggregateType: 'order',
  aggregateId: 'o-1',
  aggregateVersion: 3n,
  type: 'commerce.OrderPlaced',
  payload: { kind: 'json', text: '{"n": 1}' },
  schemaId: null,
  headers: {},
  traceparent: null,
  occurredAt: '2026-01-02T03:04:05.600000Z',
  recordedAt: '2026-01-02T03:04:05.678901Z',
  seq: 9_007_199_254_740_993n,
};

test('a row with all its columns', () => {
  assert.deepEqual(decode(outboxRow()), WHOLE);
});

test('columns in any order, and new ones anywhere, change nothing', () => {
  const added = ['first', ...OUTBOX_COLUMNS.toReversed(), 'last'];
  assert.deepEqual(decode(outboxRow({ first: 'x', last: null }), added), WHOLE);
});

test('what may be null, and what may be set', () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const set = decode(outboxRow({ aggregateversion: null, schema_id: '17', traceparent, headers: '{"größe": "ü"}' }));
  assert.deepEqual(set, { ...WHOLE, aggregateVersion: null, schemaId: 17, traceparent, headers: { größe: 'ü' } });
  assert.deepEqual(decode(outboxRow({ headers: null })), WHOLE);
});

test('JSON keeps its text, digits and all', () => {
  const payload = '{"n": 12345678901234567890.123456789, "t": "ü"}';
  assert.deepEqual(decode(outboxRow({ payload })).payload, { kind: 'json', text: payload });
});

test('bytes come in hexadecimal', () => {
  const { payload } = decode(outboxRow({ payload: null, payload_bytes: '\\x0000000a01ff' }));
  assert.deepEqual(payload, { kind: 'avro', bytes: Buffer.from([0, 0, 0, 10, 1, 255]) });
  const empty = decode(outboxRow({ payload: null, payload_bytes: '\\x' }));
  assert.deepEqual(empty.payload, { kind: 'avro', bytes: Buffer.alloc(0) });
});

test('a tombstone has neither payload', () => {
  assert.deepEqual(decode(outboxRow({ payload: null, tombstone: 't' })).payload, { kind: 'tombstone' });
});

const flaws: ReadonlyArray<readonly [column: string, changes: OutboxRow]> = [
  ['id', { id: null }],
  ['id', { id: '7d444840-9dc0-41d1-b245-5ffdce74fad2' }],
  ['aggregatetype', { aggregatetype: null }],
  ['aggregateid', { aggregateid: null }],
  ['type', { type: null }],
  ['payload', { payload: null }],
  ['payload_bytes', { payload: null, payload_bytes: 'AAE=' }],
  ['headers', { headers: '[]' }],
  ['headers', { headers: 'null' }],
  ['headers', { headers: '{"a": 1}' }],
  ['occurred_at', { occurred_at: null }],
  ['seq', { seq: null }],
  ['recorded_at', { recorded_at: null }],
];
for (const [column, changes] of flaws) {
  test(`a flaw in ${column} (${JSON.stringify(changes)}) is named, and its value is not`, () => {
    const decodeFlawed = () => decode(outboxRow({ aggregateid: 'CANARY', ...changes }));
    assert.throws(decodeFlawed, (error) => error instanceof RowError && error.column === column);
    assert.throws(decodeFlawed, (error) => !/CANARY|AAE=|41d1/.test(String(error)));
  });
}

test('a flawed row still tells what it is about', () => {
  const decoder = decoderFor(OUTBOX_COLUMNS);
  const described = decoder.describe(tuple(valuesOf(outboxRow({ id: null, seq: null }))));
  assert.deepEqual(described, { id: '', aggregateType: 'order', aggregateId: 'o-1' });
});

test('nothing of one row shows in the next', () => {
  const decoder = decoderFor(OUTBOX_COLUMNS);
  const first = outboxRow({ headers: '{"a":"b"}', traceparent: 'x', schema_id: '5' });
  decoder.decode(tuple(valuesOf(first)));
  assert.deepEqual(decoder.decode(tuple(valuesOf(outboxRow()))), WHOLE);
  const short = tuple(valuesOf(outboxRow()).slice(0, 4)); // fewer values than the relation has columns
  assert.throws(() => decoder.decode(short), RowError);
});

test('a publication that leaves a column out is told at its description', () => {
  const without = OUTBOX_COLUMNS.filter((column) => column !== 'headers');
  assert.throws(() => decoderFor(without), /headers is missing/);
});
