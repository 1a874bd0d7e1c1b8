/**
 * Publishes one batch: notes its dead letters, commits it to Kafka with the checkpoint that it leads to, and only then confirms. Holds
 * the checkpoint of the session; nothing else moves it.
 */
import { SpanKind, type Tracer } from '@opentelemetry/api';
import type { OutgoingRecord } from '../events/record.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { formatLsn, type Lsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { linksTo } from '../telemetry/traces.ts';
import type { Batch, BatchEntry } from './batch.ts';
import type { Checkpoint } from './checkpoint.ts';
import { noteBefore, settleAfter } from './dead-letter-notes.ts';
import type { Sink } from './sink.ts';

export interface PublisherOptions {
  readonly sink: Sink;
  readonly control: Queryable;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly failPoint: FailPoint;
}

export class Publisher {
  readonly #options: PublisherOptions;
  #checkpoint: Checkpoint;
  #committedAtMs = Date.now();

  constructor(options: PublisherOptions, checkpoint: Checkpoint) {
    this.#options = options;
    this.#checkpoint = checkpoint;
  }

  /** What is durable in Kafka. */
  get checkpoint(): Checkpoint {
    return this.#checkpoint;
  }

  get checkpointAgeSeconds(): number {
    return (Date.now() - this.#committedAtMs) / 1000;
  }

  /** Publishes what was read from the WAL. */
  async publish(batch: Batch): Promise<void> {
    const end = batch.ends.at(-1);
    const next: Checkpoint = {
      ...this.#checkpoint,
      endLsn: end?.endLsn ?? this.#checkpoint.endLsn,
      partial: batch.partial,
      lastEventId: batch.entries.findLast(isOfLedger)?.eventId ?? this.#checkpoint.lastEventId,
      commitTimeMs: Math.max(end?.commitTimeMs ?? 0, this.#checkpoint.commitTimeMs),
    };
    await this.#commit(batch.entries, batch.bytes, next);
    this.#measureVisibility(batch.ends);
    if (batch.partial === null) return;
    this.#options.failPoint('inside-split-transaction');
    if (batch.entries.at(-1)?.byControl === true) this.#options.failPoint('inside-key-release');
  }

  /** Publishes rows that are older than the slot; null when there are no more. */
  async publishBackfill(entries: readonly BatchEntry[], backfill: Checkpoint['backfill']): Promise<void> {
    const lastEventId = entries.at(-1)?.eventId ?? this.#checkpoint.lastEventId;
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    await this.#commit(entries, bytes, { ...this.#checkpoint, backfill, lastEventId });
  }

  /** Moves the checkpoint to an LSN below which everything was published, or writes the first one. */
  async move(endLsn: Lsn): Promise<void> {
    if (endLsn < this.#checkpoint.endLsn || this.#checkpoint.partial !== null)
      throw new Error('a checkpoint only grows');
    await this.#commit([], 0, { ...this.#checkpoint, endLsn });
  }

  async #commit(entries: readonly BatchEntry[], bytes: number, next: Checkpoint): Promise<void> {
    const { sink, control, metrics, failPoint } = this.#options;
    if (next.endLsn < this.#checkpoint.endLsn) throw new Error('a checkpoint only grows');
    failPoint('after-encode');
    const notes = entries.filter(({ note }) => note !== null);
    if (notes.length > 0) await this.#note(notes);
    const span = this.#startSpan(entries, next);
    const startedAt = performance.now();
    try {
      await sink.commit(recordsOf(entries), next, () => {
        metrics.stageDurationSeconds.record((performance.now() - startedAt) / 1000, { stage: 'sent' });
        failPoint('after-send');
      });
      failPoint('after-end-txn');
    } catch (error) {
      metrics.checkpointsTotal.add(1, { result: 'in-doubt' });
      throw error;
    } finally {
      span.end();
    }
    this.#checkpoint = { ...next, topics: new Map(sink.topics) };
    this.#committedAtMs = Date.now();
    this.#measure(entries.length, bytes, (performance.now() - startedAt) / 1000);
    if (notes.some(({ note }) => note?.kind === 'resolved')) {
      failPoint('after-release-before-notes');
      await settleAfter(control, next, notes);
    }
    failPoint('after-commit-before-confirm');
  }

  async #note(entries: readonly BatchEntry[]): Promise<void> {
    const { control, metrics } = this.#options;
    await noteBefore(control, this.#checkpoint, entries);
    for (const { note } of entries) {
      if (note?.kind === 'dead-letter') metrics.deadLetteredEventsTotal.add(1, { code: note.code });
      else if (note !== null) metrics.releasedEventsTotal.add(1, { result: note.as });
    }
  }

  /** One span for the Kafka transaction, linked to the requests that it serves. */
  #startSpan(entries: readonly BatchEntry[], next: Checkpoint) {
    return this.#options.tracer.startSpan('ferry.relay publish', {
      kind: SpanKind.PRODUCER,
      links: linksTo(entries.map((entry) => entry.traceparent)),
      attributes: {
        'messaging.system': 'kafka',
        'messaging.batch.message_count': entries.length,
        'ferry.lsn': formatLsn(next.endLsn),
      },
    });
  }

  /** Of up to 32 transactions, evenly: thousands in one batch tell no more. */
  #measureVisibility(ends: Batch['ends']): void {
    const now = Date.now();
    const step = Math.ceil(ends.length / 32);
    for (let i = 0; i < ends.length; i += step) {
      const commitTimeMs = ends[i]?.commitTimeMs ?? now;
      this.#options.metrics.commitToVisibleSeconds.record(Math.max(0, now - commitTimeMs) / 1000);
    }
  }

  #measure(events: number, bytes: number, seconds: number): void {
    const { metrics } = this.#options;
    metrics.checkpointsTotal.add(1, { result: 'committed' });
    metrics.checkpointDurationSeconds.record(seconds);
    metrics.stageDurationSeconds.record(seconds, { stage: 'committed' });
    if (events === 0) return;
    metrics.publishedEventsTotal.add(events);
    metrics.publishedBytesTotal.add(bytes);
    metrics.batchEvents.record(events);
  }
}

function recordsOf(entries: readonly BatchEntry[]): OutgoingRecord[] {
  const records: OutgoingRecord[] = [];
  for (const { record, state } of entries) {
    if (record !== null) records.push(record);
    if (state !== null) records.push(state);
  }
  return records;
}

/** Whether the entry's row must be in the outbox still when a checkpoint is compared with it: what is published once more may be old. */
function isOfLedger(entry: BatchEntry): boolean {
  return !entry.byControl;
}
