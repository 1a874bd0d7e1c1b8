/**
 * Consumes events so that each has its effect once, whatever Kafka delivers again: the event's id goes into the inbox in the Postgres
 * transaction of the effect, and the offset is committed after it. A batch of records shares one transaction.
 */
import { type Span, SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import type { EventDecoder } from '../events/decoder.ts';
import type { KafkaOptions } from '../kafka/client.ts';
import { GroupConsumer } from '../kafka/consumer.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { coerceError } from '../kernel/errors.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { contextFromTraceparent } from '../telemetry/traces.ts';
import { type ConsumedEvent, isUnreadable, readEvent, type UnreadableRecord } from './consumed-event.ts';

/**
 * Applies events of one partition, in their order, through `tx` and through nothing else: it may be rolled back and called again. Events
 * that it does not know it leaves alone. What it throws is tried again without end, so it throws only what may pass.
 */
export type EventHandler = (tx: Queryable, events: readonly ConsumedEvent[]) => Promise<void>;

export interface EventConsumerOptions {
  readonly kafka: KafkaOptions;
  readonly pool: Pool;
  readonly decoder: EventDecoder;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  /** Consumer group in Kafka, and the name under which the inbox keeps what was applied. */
  readonly group: string;
  readonly topics: readonly string[];
  readonly backoffMaxMs: number;
  readonly handler: EventHandler;
}

export interface EventConsumer {
  /** Finishes the transaction in flight, commits its offset and leaves the group. */
  stop(): Promise<void>;
}

/** Begins to consume. Kafka, Postgres and the registry need not be there yet. */
export function startEventConsumer(options: EventConsumerOptions): EventConsumer {
  const { kafka, group, topics, backoffMaxMs, metrics } = options;
  const consumer = new GroupConsumer({
    kafka,
    groupId: group,
    topics,
    backoffMaxMs,
    metrics,
    handle: (records) => applyRecords(options, records),
  });
  consumer.start();
  return consumer;
}

async function applyRecords(options: EventConsumerOptions, records: readonly LogRecord[]): Promise<void> {
  const events: ConsumedEvent[] = [];
  for (const record of records) {
    const read = await readEvent(record, options.decoder);
    if (isUnreadable(read)) skip(options, read);
    else events.push(read);
  }
  if (events.length === 0) return;
  const applied = await transaction(options.pool, (tx) => applyOnce(options, tx, events));
  options.metrics.inboxEventsTotal.add(applied, { result: 'applied' });
  options.metrics.inboxEventsTotal.add(events.length - applied, { result: 'duplicate' });
}

/** Ferry's relay publishes only what it encoded itself, so this is another producer's; its record must not stop the partition. */
function skip({ logger, metrics, group }: EventConsumerOptions, { code, message, source }: UnreadableRecord): void {
  metrics.errorsTotal.add(1, { code, stage: 'consumed' });
  logger.error({ code, group, ...source, offset: String(source.offset) }, `record skipped: ${message}`);
}

/** Applies the events that the inbox does not have yet; returns how many. */
async function applyOnce(
  options: EventConsumerOptions,
  tx: Queryable,
  events: readonly ConsumedEvent[],
): Promise<number> {
  const claimed = await claimEvents(tx, options.group, events);
  const applied = claimed.size;
  const fresh = events.filter(({ id }) => claimed.delete(id)); // the first of an id that came twice
  if (applied > 0) await applyTraced(options, tx, fresh);
  return applied;
}

/** Enters the events into the group's inbox; returns the ids that were not there. Waits for another member that is just applying one. */
async function claimEvents(tx: Queryable, group: string, events: readonly ConsumedEvent[]): Promise<Set<string>> {
  const { rows } = await tx.query<{ event_id: string }>(
    `insert into commerce.inbox (consumer_group, event_id, recorded_at)
     select $1, event_id, recorded_at from unnest($2::uuid[], $3::timestamptz[]) as event(event_id, recorded_at)
     on conflict do nothing
     returning event_id`,
    [group, events.map(({ id }) => id), events.map(({ recordedAt }) => recordedAt)],
  );
  return new Set(rows.map((row) => row.event_id));
}

/** One span an event, the last of the trace that began with its write; each lasts as the batch does. No key and no value stands in it. */
async function applyTraced(
  options: EventConsumerOptions,
  tx: Queryable,
  events: readonly ConsumedEvent[],
): Promise<void> {
  const spans = events.map((event) => startSpan(options, event));
  try {
    await options.handler(tx, events);
  } catch (error) {
    for (const span of spans) span.setStatus({ code: SpanStatusCode.ERROR, message: coerceError(error).name });
    throw error;
  } finally {
    for (const span of spans) span.end();
  }
}

function startSpan({ tracer, group }: EventConsumerOptions, event: ConsumedEvent): Span {
  const attributes = {
    'messaging.system': 'kafka',
    'messaging.operation.type': 'process',
    'messaging.destination.name': event.source.topic,
    'messaging.destination.partition.id': String(event.source.partition),
    'messaging.kafka.offset': Number(event.source.offset),
    'messaging.consumer.group.name': group,
    'ferry.event.id': event.id,
    'ferry.event.type': event.type,
  };
  return tracer.startSpan(
    'ferry.consume',
    { kind: SpanKind.CONSUMER, attributes },
    contextFromTraceparent(event.traceparent),
  );
}
