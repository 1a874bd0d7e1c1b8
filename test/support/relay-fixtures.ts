/** What the relay's parts are made with in tests: telemetry that goes nowhere, checkpoints, events, batch entries. */
import { metrics as otelMetrics, type Tracer, trace } from '@opentelemetry/api';
import { pino } from 'pino';
import type { EncodeResult, EventEncoder } from '../../src/events/encoder.ts';
import type { OutboxEvent } from '../../src/events/outbox-event.ts';
import { TopicRoutes } from '../../src/events/routes.ts';
import type { EventId } from '../../src/kernel/event-id.ts';
import { formatLsn, type Lsn } from '../../src/kernel/lsn.ts';
import type { BatchEntry } from '../../src/relay/batch.ts';
import type { Checkpoint } from '../../src/relay/checkpoint.ts';
import { ControlGate } from '../../src/relay/control-gate.ts';
import { ParkedKeys } from '../../src/relay/parked-keys.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';

export const quiet = {
  logger: pino({ level: 'silent' }),
  metrics: createMetrics(otelMetrics.getMeter('test')),
  tracer: trace.getTracer('test') as Tracer,
};

export const lsn = (value: number | bigint): Lsn => BigInt(value) as Lsn;

export function checkpoint(changes: Partial<Checkpoint> = {}): Checkpoint {
  return {
    relay: 'main',
    systemId: '7580000000000000001',
    database: 'shop',
    slot: 'ferry_main',
    epoch: 1,
    timeline: 1,
    run: 1n,
    endLsn: lsn(1_000),
    partial: null,
    backfill: null,
    lastEventId: null,
    commitTimeMs: 0,
    topics: new Map(),
    formerTopics: [],
    ...changes,
  };
}

export function eventId(n: number): EventId {
  return `019b7c5e-8c00-7000-8000-${n.toString(16).padStart(12, '0')}` as EventId;
}

export function outboxEvent(n: number, changes: Partial<OutboxEvent> = {}): OutboxEvent {
  return {
    id: eventId(n),
    aggregateType: 'order',
    aggregateId: `o-${n % 5}`,
    aggregateVersion: null,
    type: 'test.Happened',
    payload: { kind: 'json', text: `{"n":${n}}` },
    schemaId: null,
    headers: {},
    traceparent: null,
    occurredAt: '2026-01-02T03:04:05.600000Z',
    recordedAt: '2026-01-02T03:04:05.678901Z',
    seq: BigInt(n),
    ...changes,
  };
}

export function batchEntry(n: number, position: BatchEntry['position'], bytes = 10): BatchEntry {
  const headers = { ce_id: eventId(n), ferry_lsn: formatLsn(position.commitLsn), ferry_seq: String(position.seq) };
  const record = { topic: 'order', partition: 0, key: 'k', value: null, headers };
  const place = { position, doneSeq: position.seq, byControl: false };
  return { record, bytes, eventId: eventId(n), traceparent: null, ...place, state: null, note: null };
}

/** What control messages to relay main are sealed with. */
export const CONTROL_KEY = Buffer.alloc(32, 7);

export const controlGate = new ControlGate('main', CONTROL_KEY, quiet);

/** Nothing is parked, and little may be. */
export function noneParked(bounds = { maxEventsPerKey: 100, maxEvents: 1_000 }): ParkedKeys {
  return new ParkedKeys('t.parked', bounds);
}

export const routes = new TopicRoutes('t.', new Map([['order', 'shop.order']]));

/** Takes any JSON as it is. */
export const plainEncoder: EventEncoder = {
  encode: ({ payload }): EncodeResult => {
    const value = payload.kind === 'json' ? Buffer.from(payload.text) : payload.kind === 'avro' ? payload.bytes : null;
    return { ok: true, value, schemaId: 1, subject: 's' };
  },
  refresh: async () => false,
};
