/**
 * Every metric of Ferry: name, unit and meaning, in one table. Labels take values from closed sets only; a topic, an aggregate or an
 * error's text is never a label, because writers choose those and each new value is a new time series.
 */
import type { Attributes, Counter, Gauge, Histogram, Meter } from '@opentelemetry/api';
import type { ErrorCode } from '../kernel/errors.ts';

/** The way of an event through the relay; each is named for what has just been done. */
export type Stage = 'received' | 'encoded' | 'sent' | 'committed' | 'confirmed';
/** Where an error was met: a stage of the relay, or the work around it. */
export type ErrorStage = Stage | 'started' | 'requested' | 'consumed';
export type Part = 'postgres' | 'kafka' | 'registry';

/** Seconds: from a Kafka transaction on loopback (2 ms) to a coordinator that was killed (tens of seconds). */
const DURATION_BOUNDARIES = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
const BATCH_BOUNDARIES = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000];

export interface Metrics {
  /** Records that the furthest-behind partition has not yet been read of, by a consumer of this process. `group` is one of the configuration's. */
  readonly recordsLagMax: Gauge<{ group: string }>;
  readonly slotLagBytes: Gauge;
  readonly slotLagSeconds: Gauge;
  readonly walSafeBytes: Gauge;
  readonly checkpointDurationSeconds: Histogram;
  readonly checkpointsTotal: Counter<{ result: 'committed' | 'failed' | 'in-doubt' }>;
  readonly checkpointAgeSeconds: Gauge;
  readonly stageDurationSeconds: Histogram<{ stage: Stage }>;
  readonly commitToVisibleSeconds: Histogram;
  readonly publishedEventsTotal: Counter;
  readonly publishedBytesTotal: Counter;
  readonly batchEvents: Histogram;
  readonly errorsTotal: Counter<{ code: ErrorCode | 'UNEXPECTED'; stage: ErrorStage }>;
  readonly reconnectsTotal: Counter<{ part: Part }>;
  readonly deadLetteredEventsTotal: Counter<{ code: ErrorCode }>;
  /** What the replication stream holds beside the outbox's events. */
  readonly ignoredChangesTotal: Counter<{ kind: 'insert' | 'update' | 'delete' | 'truncate' | 'message' | 'other' }>;
  readonly dlqDepth: Gauge;
  /** Dead letters of the relay that ended by a control message. */
  readonly releasedEventsTotal: Counter<{ result: 'published' | 'discarded' }>;
  readonly parkedKeys: Gauge;
  readonly parkedEvents: Gauge;
  /** What was asked of the relay through the WAL. Anybody may forge one. */
  readonly controlMessagesTotal: Counter<{ kind: 'release' | 'replay'; result: 'accepted' | 'rejected' | 'forged' }>;
  /** Read into the store, copies included; of codes that are not Ferry's only the kind. */
  readonly deadLettersTotal: Counter<{ code: ErrorCode | 'SQLSTATE' | 'HTTP' | 'OTHER' }>;
  readonly deadLettersLeftOutTotal: Counter;
  readonly deadLettersWaiting: Gauge<{ state: 'open' | 'replaying' }>;
  readonly deadLetterOldestAgeSeconds: Gauge;
  /** Given to the relay. */
  readonly replayedEventsTotal: Counter;
  readonly bufferFillRatio: Gauge;
  /** 1 for the state that the relay is in, 0 for each other; `state` is a name of the relay's state machine. */
  readonly relayState: Gauge<{ state: string }>;
  /** Questions to the schema registry: known schemas need none. */
  readonly registryRequestsTotal: Counter<{ outcome: 'learnt' | 'unchanged' | 'unavailable' }>;
  readonly inboxEventsTotal: Counter<{ group: string; result: 'applied' | 'duplicate' }>;
  /** One piece of work of a consumer: reading, handlers, commit. */
  readonly consumerBatchSeconds: Histogram<{ group: string }>;
  readonly consumerQueuedEvents: Gauge<{ group: string }>;
  readonly handlerRetriesTotal: Counter<{ group: string }>;
  readonly consumerDeadLettersTotal: Counter<{
    group: string;
    cause: 'failed' | 'unreadable' | 'too-old' | 'blocked';
  }>;
  /** How long reads were held back for their position; `result` says how it ended. */
  readonly positionWaitSeconds: Histogram<{ result: 'applied' | 'relay-behind' | 'consumers-behind' | 'unknown' }>;
  /** Entered states; `saga` and `state` are names of definitions and of the instance's state machine. */
  readonly sagasTotal: Counter<{ saga: string; state: string }>;
  readonly sagaDurationSeconds: Histogram<{ saga: string; outcome: 'completed' | 'compensated' }>;
  readonly sagaRepliesTotal: Counter<{ result: 'applied' | 'late' | 'ignored' }>;
  readonly sagaTimersTotal: Counter<{ result: 'fired' | 'set-aside' }>;
  /** Sagas that wait for an operator. */
  readonly sagasWaiting: Gauge<{ state: 'stuck' | 'compensation_failed' }>;
  /** Ended sagas that were dropped after their retention. */
  readonly sagasDroppedTotal: Counter;
  /** Rows of ferry.audit that have no link yet. */
  readonly auditUnlinked: Gauge;
  /** Links of the audit's chain; it only grows. */
  readonly auditPosition: Gauge;
  /** Days of the outbox that are older than its retention and still needed; `reason` is one of retention's. */
  readonly outboxDaysKept: Gauge<{ reason: string }>;
  readonly outboxDaysDroppedTotal: Counter;
  readonly httpRequestDurationSeconds: Histogram<{
    method: string;
    route: string;
    status: '2xx' | '3xx' | '4xx' | '5xx';
  }>;
}

/**
 * Makes every instrument on the given meter; the names, units and meanings are part of Ferry's interface. Every value gets the `labels`: those
 * who are several in a process, as relays are, have metrics of the same names and are told apart by them.
 */
export function createMetrics(meter: Meter, labels: Attributes = {}): Metrics {
  const gauge = (name: string, unit: string, description: string): Gauge => {
    const instrument = meter.createGauge(name, { unit, description });
    return { record: (value, given, context) => instrument.record(value, { ...given, ...labels }, context) };
  };
  const counter = (name: string, unit: string, description: string): Counter => {
    const instrument = meter.createCounter(name, { unit, description });
    return { add: (value, given, context) => instrument.add(value, { ...given, ...labels }, context) };
  };
  const histogram = (
    name: string,
    unit: string,
    description: string,
    explicitBucketBoundaries: number[],
  ): Histogram => {
    const instrument = meter.createHistogram(name, { unit, description, advice: { explicitBucketBoundaries } });
    return { record: (value, given, context) => instrument.record(value, { ...given, ...labels }, context) };
  };
  const duration = (name: string, description: string) => histogram(name, 's', description, DURATION_BOUNDARIES);
  return {
    recordsLagMax: gauge('ferry_records_lag_max', '{record}', 'Unread records of the furthest-behind partition'),
    slotLagBytes: gauge('ferry_slot_lag_bytes', 'By', 'WAL between the slot’s confirmed position and the server’s'),
    slotLagSeconds: gauge('ferry_slot_lag_seconds', 's', 'Age of the oldest commit that is not yet confirmed'),
    walSafeBytes: gauge('ferry_wal_safe_bytes', 'By', 'WAL that may still be written before the slot is lost'),
    checkpointDurationSeconds: duration(
      'ferry_checkpoint_duration_seconds',
      'One Kafka transaction, from its first send to the answer of its commit',
    ),
    checkpointsTotal: counter('ferry_checkpoints_total', '{checkpoint}', 'Kafka transactions by how they ended'),
    checkpointAgeSeconds: gauge('ferry_checkpoint_age_seconds', 's', 'Time since the last committed checkpoint'),
    stageDurationSeconds: duration('ferry_stage_duration_seconds', 'Time that a batch spent in one stage of the relay'),
    commitToVisibleSeconds: duration(
      'ferry_commit_to_visible_seconds',
      'From the commit in Postgres to the commit in Kafka, by the clocks of both hosts',
    ),
    publishedEventsTotal: counter('ferry_published_events_total', '{event}', 'Events committed to Kafka'),
    publishedBytesTotal: counter('ferry_published_bytes_total', 'By', 'Encoded bytes of the events committed to Kafka'),
    batchEvents: histogram('ferry_batch_events', '{event}', 'Events in one Kafka transaction', BATCH_BOUNDARIES),
    errorsTotal: counter('ferry_errors_total', '{error}', 'Errors by code and by where they were met'),
    reconnectsTotal: counter('ferry_reconnects_total', '{reconnect}', 'Connections made anew to a part'),
    deadLetteredEventsTotal: counter('ferry_dead_lettered_events_total', '{event}', 'Events dead-lettered, by cause'),
    dlqDepth: gauge('ferry_dlq_depth', '{event}', 'Records in the dead-letter topics'),
    ignoredChangesTotal: counter(
      'ferry_ignored_changes_total',
      '{change}',
      'Changes in the WAL that are no events, by kind',
    ),
    releasedEventsTotal: counter(
      'ferry_released_events_total',
      '{event}',
      'Dead letters of the relay that were published or given up',
    ),
    parkedKeys: gauge('ferry_parked_keys', '{key}', 'Keys that wait behind an event which the relay cannot publish'),
    parkedEvents: gauge('ferry_parked_events', '{event}', 'Events of those keys'),
    controlMessagesTotal: counter(
      'ferry_control_messages_total',
      '{message}',
      'Messages that asked the relay to publish something, by what became of them',
    ),
    deadLettersTotal: counter('ferry_dead_letters_total', '{record}', 'Dead letters read into the store, by cause'),
    deadLettersLeftOutTotal: counter(
      'ferry_dead_letters_left_out_total',
      '{record}',
      'Dead letters that the store cannot hold',
    ),
    deadLettersWaiting: gauge(
      'ferry_dead_letters_waiting',
      '{event}',
      'Dead letters in the store that are not dealt with',
    ),
    deadLetterOldestAgeSeconds: gauge(
      'ferry_dead_letter_oldest_age_seconds',
      's',
      'Age of the oldest open dead letter',
    ),
    replayedEventsTotal: counter(
      'ferry_replayed_events_total',
      '{event}',
      'Events of the outbox that replays gave to the relay',
    ),
    bufferFillRatio: gauge('ferry_buffer_fill_ratio', '1', 'Share of the relay’s buffer in use; 1 pauses the socket'),
    relayState: gauge('ferry_relay_state', '1', '1 for the state that the relay is in, 0 for each other'),
    registryRequestsTotal: counter(
      'ferry_registry_requests_total',
      '{request}',
      'Questions to the schema registry, by outcome',
    ),
    inboxEventsTotal: counter('ferry_inbox_events_total', '{event}', 'Events that consumers applied or found applied'),
    positionWaitSeconds: duration('ferry_position_wait_seconds', 'Reads held back until their position was applied'),
    consumerBatchSeconds: duration(
      'ferry_consumer_batch_duration_seconds',
      'One transaction of a consumer: decoding, handlers, commit',
    ),
    consumerQueuedEvents: gauge('ferry_consumer_queued_events', '{event}', 'Events read and not yet done with'),
    handlerRetriesTotal: counter('ferry_handler_retries_total', '{retry}', 'Events tried again after a handler failed'),
    consumerDeadLettersTotal: counter(
      'ferry_consumer_dead_letters_total',
      '{event}',
      'Events that consumers dead-lettered, by cause',
    ),
    sagasTotal: counter('ferry_sagas_total', '{saga}', 'Sagas by the states that they entered'),
    sagaDurationSeconds: duration('ferry_saga_duration_seconds', 'Sagas from start to end, by how they ended'),
    sagaRepliesTotal: counter('ferry_saga_replies_total', '{reply}', 'Replies to the commands of sagas'),
    sagaTimersTotal: counter('ferry_saga_timers_total', '{timer}', 'Timers of sagas that were due'),
    sagasWaiting: gauge('ferry_sagas_waiting', '{saga}', 'Sagas that wait for an operator'),
    sagasDroppedTotal: counter('ferry_sagas_dropped_total', '{saga}', 'Ended sagas dropped after their retention'),
    auditUnlinked: gauge('ferry_audit_unlinked', '{row}', 'Audit rows that are not in the chain yet'),
    auditPosition: gauge('ferry_audit_position', '{link}', 'Length of the audit’s chain; it only grows'),
    outboxDaysKept: gauge('ferry_outbox_days_kept', '{day}', 'Days of the outbox kept beyond the retention, by reason'),
    outboxDaysDroppedTotal: counter('ferry_outbox_days_dropped_total', '{day}', 'Days dropped from the outbox'),
    httpRequestDurationSeconds: duration('ferry_http_request_duration_seconds', 'HTTP requests by route template'),
  };
}
