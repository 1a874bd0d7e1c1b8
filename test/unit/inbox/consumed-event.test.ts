/** What a handler gets of a record, and which records nobody can read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EventDecoder } from '../../../src/events/decoder.ts';
import { type ConsumedEvent, isUnreadable, readEvent } from '../../../src/inbox/consumed-event.ts';
import type { LogRecord } from '../../../src/kafka/log-reader.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

const ID = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';
const decoder: EventDecoder = {
  decode: async (value) => ({ schemaId: 1, type: 'commerce.OrderPlaced', value: JSON.parse(value.toString()) }),
};
const refusing = (code: 'SCHEMA_UNKNOWN' | 'REGISTRY_UNAVAILABLE'): EventDecoder => ({
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
    traceparent: 'tp',
  },
};

async function read(changes: Partial<LogRecord>): Promise<ConsumedEvent> {
  const event = await readEvent({ ...record, ...changes }, decoder);
  assert.ok(!isUnreadable(event));
  return event;
}

test('a record becomes an event with what its headers say', async () => {
  assert.deepEqual(await read({}), {
    id: ID,
    type: 'commerce.OrderPlaced',
    aggregateType: 'order',
    recordedAt: '2026-01-02T03:04:06.000001Z',
    traceparent: 'tp',
    value: { total: '1.00' },
    source: { topic: 'commerce.order', partition: 2, offset: 9n },
  });
});

test('a tombstone has the type of its header and no value', async () => {
  const event = await read({ value: null, headers: { ...record.headers, ce_type: 'commerce.OrderErased' } });
  assert.deepEqual([event.type, event.value], ['commerce.OrderErased', null]);
});

test('without a time in the header, or with nonsense, the id gives it', async () => {
  for (const ferry_recorded_at of [undefined, 'yesterday-ish']) {
    const { ferry_recorded_at: _, ...rest } = record.headers;
    const headers = ferry_recorded_at === undefined ? rest : { ...rest, ferry_recorded_at };
    assert.equal((await read({ headers })).recordedAt, '2022-02-22T19:22:22.000Z');
  }
});

test('a record that is not ours, or whose value no schema reads, is told apart from a registry that is away', async () => {
  const foreign = await readEvent({ ...record, headers: {} }, decoder);
  assert.ok(isUnreadable(foreign) && foreign.code === 'EVENT_ID_INVALID');
  const unknown = await readEvent(record, refusing('SCHEMA_UNKNOWN'));
  assert.ok(isUnreadable(unknown) && unknown.code === 'SCHEMA_UNKNOWN');
  assert.deepEqual(unknown.source, { topic: 'commerce.order', partition: 2, offset: 9n });
  await assert.rejects(readEvent(record, refusing('REGISTRY_UNAVAILABLE')), { code: 'REGISTRY_UNAVAILABLE' });
});
