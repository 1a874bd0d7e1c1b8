/**
 * What the group has given to this member, from one rebalance to the next: the queues of its partitions' keys, and which offsets are done
 * with. Another assignment takes its place as a whole; what workers still do for the old one changes nothing any more but the inbox.
 */
import type { TopicPartition } from '../kafka/consumer.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { KeyScheduler, type QueuedRecord, queuedRecord, type Work } from './key-scheduler.ts';
import { OffsetTracker } from './offset-tracker.ts';

export interface QueueLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

/** Records that a crash would bring again, per partition, because a slow one stands before them. */
const MAX_SPAN = 100_000;

export class Assignment {
  readonly partitions: readonly TopicPartition[];
  readonly scheduler = new KeyScheduler();
  readonly #trackers = new Map<string, { partition: TopicPartition; tracker: OffsetTracker }>();
  readonly #over = new AbortController();

  constructor(partitions: readonly TopicPartition[]) {
    this.partitions = partitions;
  }

  /** Fires when what is still being done is to be rolled back, since it holds up whoever has the partitions now. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  end(): void {
    this.#over.abort(new Error('the group has given out its partitions anew'));
  }

  offer(records: readonly LogRecord[]): void {
    for (const record of records) {
      this.#tracker(record).add(record.offset);
      const bytes = (record.key?.length ?? 0) + (record.value?.length ?? 0) + RECORD_OVERHEAD_BYTES;
      this.scheduler.push(queuedRecord(record, bytes));
    }
  }

  /** The work is done but for `undone`, which comes again. */
  finish(work: Work, undone: readonly QueuedRecord[]): void {
    const open = new Set(undone);
    for (const queued of work.records) {
      if (!open.has(queued)) this.#tracker(queued.record).finish(queued.record.offset);
    }
    this.scheduler.finish(work, undone);
  }

  hasRoom({ maxEvents, maxBytes }: QueueLimits): boolean {
    const { size, bytes } = this.scheduler;
    return (
      size < maxEvents && bytes < maxBytes && this.#trackers.values().every(({ tracker }) => tracker.span < MAX_SPAN)
    );
  }

  committable(): Array<TopicPartition & { offset: bigint }> {
    return [...this.#trackers.values()].flatMap(({ partition, tracker }) =>
      tracker.committable === null ? [] : [{ ...partition, offset: tracker.committable }],
    );
  }

  #tracker({ topic, partition }: TopicPartition): OffsetTracker {
    const name = `${topic}/${partition}`;
    let found = this.#trackers.get(name);
    if (found === undefined) {
      found = { partition: { topic, partition }, tracker: new OffsetTracker() };
      this.#trackers.set(name, found);
    }
    return found.tracker;
  }
}

/** What a record takes in memory beside key and value: its headers and objects, roughly. */
const RECORD_OVERHEAD_BYTES = 1_024;
