/** What a handler gets of a record, and which records nobody can read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ConsumedEvent, isUnreadable, type ReaderOf, readEvent } from '../../../src/inbox/consumed-event.ts';
import type { LogRecord } from '../../../src/kafka/log-reader.ts';
import { FerryError } from '../../../src/kernel/errors.ts';
import type { ResolvingDecoder } from '../../../src/registry/decoder.ts';

const ID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';
const decoder: ResolvingDecoder = {
  decode: async (value, { readerSchema } = {}) => ({
    schemaId: 1,
    type: 'commerce.OrderPlaced',
    value: { ...JSON.parse(value.toString()), ...(readerSchema === undefined ? {} : { readerSchema }) },
  }),
};
const everything: ReaderOf = () => ({});
const refusing = (code: 'SCHEMA_UNKNOWN' | 'REGISTRY_UNAVAILABLE'): ResolvingDecoder => ({
  decode: () => Promise.reject(new FerryError(code, 'no')),
});
const record: LogRecord = {
  topic: 'commerce.order',
  partition: 2,
  offset: 9n,
  timestampMs: 0,
  key: Buffer.from('order-1'),
  value: Buffer.from('{"total":"1.00"}'),
  headers: {
    ce_id: ID,
    ferry_recorded_at: '2026-01-02T03:04:06.000001Z',
    ferry_aggregate_type: 'order',
    ferry_aggregate_version: '7',
    ce_time: '2026-01-02T03:04:05.5Z',
    traceparent: 'tp',
  },
};

async function read(changes: Partial<LogRecord>, readerOf = everything): Promise<ConsumedEvent> {
  const event = await readEvent({ ...record, ...changes }, decoder, readerOf);
  assert.ok(event !== null && !isUnreadable(event));
  return event;
}

test('a record becomes an event with what its headers say', async () => {
  assert.deepEqual(await read({}), {
    id: ID,
    type: 'commerce.OrderPlaced',
    aggregateType: 'order',
    aggregateId: 'order-1',
    aggregateVersion: 7n,
    occurredAt: '2026-01-02T03:04:05.5Z',
    recordedAt: '2026-01-02T03:04:06.000001Z',
    traceparent: 'tp',
    headers: record.headers,
    value: { total: '1.00' },
    source: { topic: 'commerce.order', partition: 2, offset: 9n },
  });
});

test('a tombstone has the type of its header and no value', async () => {
  const event = await read({ value: null, headers: { ...record.headers, ce_type: 'commerce.OrderErased' } });
  assert.deepEqual([event.type, event.value], ['commerce.OrderErased', null]);
});

test('without a time in the header, or with nonsense, the id gives it', async () => {
  for (const ferry_recorded_at of [undefined, 'yesterday-ish', '2026-02-30T00:00:00Z', '1/2/2026']) {
    const { ferry_recorded_at: _, ...rest } = record.headers;
    const headers = ferry_recorded_at === undefined ? rest : { ...rest, ferry_recorded_at };
    assert.equal((await read({ headers })).recordedAt, '2022-02-22T19:22:22.000Z');
  }
});

test('a type without a handler is passed over undecoded, with one in the form of its reader', async () => {
  const typed = { ...record, headers: { ...record.headers, ce_type: 'commerce.OrderPlaced' } };
  assert.equal(await readEvent(typed, refusing('SCHEMA_UNKNOWN'), () => undefined), null);
  assert.equal(await readEvent(record, decoder, (type) => (type === 'other' ? {} : undefined)), null);
  const readerOf: ReaderOf = (type) => ({ readerSchema: `reader of ${type}` });
  assert.deepEqual((await read({}, readerOf)).value, { total: '1.00', readerSchema: 'reader of commerce.OrderPlaced' });
});

test('a record that is not ours, or whose value no schema reads, is told apart from a registry that is away', async () => {
  const foreign = await readEvent({ ...record, headers: {} }, decoder, everything);
  assert.ok(foreign !== null && isUnreadable(foreign) && foreign.code === 'EVENT_ID_INVALID');
  const unknown = await readEvent(record, refusing('SCHEMA_UNKNOWN'), everything);
  assert.ok(unknown !== null && isUnreadable(unknown) && unknown.code === 'SCHEMA_UNKNOWN');
  await assert.rejects(readEvent(record, refusing('REGISTRY_UNAVAILABLE'), everything), {
    code: 'REGISTRY_UNAVAILABLE',
  });
});
