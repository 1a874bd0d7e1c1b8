/** Headers of a record: CloudEvents, trace and position, which a writer cannot forge. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deadLetterHeaders } from '../../../src/events/dead-letter.ts';
import type { OutboxEvent } from '../../../src/events/outbox-event.ts';
import { eventHeaders, HEADER, isReservedHeader } from '../../../src/events/record.ts';
import { SAGA_HEADER } from '../../../src/events/saga-headers.ts';
import type { EventId } from '../../../src/kernel/event-id.ts';
import { parseLsn } from '../../../src/kernel/lsn.ts';

const event: OutboxEvent = {
  id: '017f22e2-79b0-7cc3-98c4-dc0c0c07398f' as EventId,
  aggregateType: 'order',
  aggregateId: 'order-1',
  aggregateVersion: 7n,
  type: 'commerce.OrderPlaced',
  payload: { kind: 'json', text: '{}' },
  schemaId: null,
  headers: { tenant: 'blue', [HEADER.id]: 'forged', [HEADER.lsn]: 'F/F' },
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  occurredAt: '2026-01-02T03:04:05.678901Z',
  recordedAt: '2026-01-02T03:04:06.000001Z',
  seq: 12n,
};
const position = { commitLsn: parseLsn('16/B374D848'), seq: 3 };

test('an event has CloudEvents headers, its trace and its position; what the writer added stays, what he forged does not', () => {
  const headers = eventHeaders(event, position, 'shop', { id: 5, subject: 'commerce.order-commerce.OrderPlaced' });
  assert.deepEqual(headers, {
    tenant: 'blue',
    ce_id: event.id,
    ce_type: 'commerce.OrderPlaced',
    ce_source: 'shop',
    ce_subject: 'order-1',
    ce_time: '2026-01-02T03:04:05.678901Z',
    ce_specversion: '1.0',
    ce_dataschema: 'schema-registry:commerce.order-commerce.OrderPlaced:5',
    'content-type': 'application/vnd.confluent.avro',
    traceparent: event.traceparent,
    ferry_lsn: '16/B374D848',
    ferry_seq: '3',
    ferry_aggregate_type: 'order',
    ferry_aggregate_version: '7',
    ferry_recorded_at: '2026-01-02T03:04:06.000001Z',
  });
});

test('what an event does not have, its headers do not claim', () => {
  const headers = eventHeaders({ ...event, aggregateVersion: null, traceparent: null }, position, 'shop', null);
  for (const name of [HEADER.aggregateVersion, HEADER.traceparent, HEADER.contentType, HEADER.dataSchema]) {
    assert.ok(!(name in headers), name);
  }
});

test('a dead letter says where it came from, from the WAL or from a topic', () => {
  const cause = {
    type: 'EncodeRefusal',
    code: 'SCHEMA_MISMATCH',
    message: 'x'.repeat(5_000),
    retryCount: 0,
    maxRetries: 3,
    firstFailedAt: '2026-01-02T03:04:05Z',
    failedAt: '2026-01-02T03:04:06Z',
    replayable: false,
  } as const;
  const wal = deadLetterHeaders(cause, { topic: 't', lsn: '0/1', seq: 2 }, 'value');
  assert.deepEqual([wal.source_lsn, wal.source_seq, wal.source_partition], ['0/1', '2', undefined]);
  assert.equal(wal.error_message?.length, 1_000);
  assert.equal(wal.replayable, 'false');
  const kafka = deadLetterHeaders(cause, { topic: 't', partition: 4, offset: '99' }, 'outbox:1');
  assert.deepEqual([kafka.source_partition, kafka.source_offset, kafka.source_lsn], ['4', '99', undefined]);
  assert.equal(kafka.original_record, 'outbox:1');
});

test('every header by which Ferry speaks is reserved, whatever its case; those that everybody knows are not', () => {
  const common: string[] = [HEADER.contentType, HEADER.traceparent];
  const own = [...Object.values(HEADER), ...Object.values(SAGA_HEADER)].filter((name) => !common.includes(name));
  for (const name of [...own, 'Ferry_Saga_Id', 'CE_ID', 'ferry_']) assert.ok(isReservedHeader(name), name);
  for (const name of [...common, 'tenant', 'ferryman', 'price_ferry_']) assert.ok(!isReservedHeader(name), name);
});
