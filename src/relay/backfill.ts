/**
 * Publishes the rows that were committed before the slot existed, in order of insertion, before anything is read from the slot: so a key's
 * older events always come first. Exactly once like everything else: how far it got stands in the checkpoint of the same transactions.
 * At the first start those are the rows written before the relay; after a reset, whatever of them Kafka does not hold already.
 */
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { sleep } from '../kernel/deadline.ts';
import { readEvents } from '../outbox/event-reader.ts';
import { readEventTopics } from '../outbox/event-topics.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { BatchEntry, BatchLimits } from './batch.ts';
import { backfillLsn, type Checkpoint, topicsEver } from './checkpoint.ts';
import type { ReadyEpoch } from './epoch.ts';
import { findOlderRows, isSeenByAll } from './ledger.ts';
import type { Publisher } from './publisher.ts';
import type { RecordFactory } from './record-factory.ts';
import type { Sink } from './sink.ts';

export interface BackfillOptions {
  readonly control: Queryable;
  readonly epoch: ReadyEpoch;
  readonly factory: RecordFactory;
  readonly publisher: Publisher;
  /** Ids that are in Kafka already, of an earlier epoch. */
  readonly published: ReadonlySet<string>;
  readonly limits: BatchLimits;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

const LOOK_EVERY_MS = 100;
const LOOKS_A_REPORT = 50;

/** Resolves when no such row is left, or early when the signal fires. Safe to repeat after a crash. */
export async function backfill(options: BackfillOptions): Promise<void> {
  const { control, epoch, publisher, published, limits, signal, logger } = options;
  let progress = publisher.checkpoint.backfill;
  if (progress !== null) await untilSeen(options);
  while (progress !== null && !signal.aborted) {
    const rows = await findOlderRows(control, epoch.origin.snapshot, progress.rowSeq, limits.maxEvents);
    const last = rows.at(-1);
    if (last === undefined) {
      await publisher.publishBackfill([], null);
      if (progress.count > 0) logger.info({ events: progress.count }, 'rows older than the slot are published');
      return;
    }
    const wanted = rows.filter(({ id }) => !published.has(id));
    const ids = wanted.map(({ id }) => id);
    const { events, looked } = await readEvents(control, ids, limits);
    const entries = await makeEntries(events, progress.count, options);
    const next = wanted[looked]; // the first that did not fit
    const rowSeq = next === undefined ? last.seq : next.seq - 1n;
    progress = { rowSeq, count: progress.count + events.length };
    if (entries.length > 0) await publisher.publishBackfill(entries, progress);
    logger.info({ events: progress.count }, 'publishing rows that are older than the slot');
  }
}

/** Rows that nobody sees yet would be passed over, and the slot does not send them. */
async function untilSeen({ control, epoch, signal, logger }: BackfillOptions): Promise<void> {
  for (let looks = 0; !signal.aborted && !(await isSeenByAll(control, epoch.origin.snapshot)); looks++) {
    if (looks % LOOKS_A_REPORT === 0) {
      logger.warn('rows older than the slot wait for commits that a synchronous standby has not confirmed');
    }
    await sleep(LOOK_EVERY_MS, signal);
  }
}

async function makeEntries(
  events: readonly OutboxEvent[],
  publishedBefore: number,
  { factory, epoch }: Pick<BackfillOptions, 'factory' | 'epoch'>,
): Promise<BatchEntry[]> {
  const commitLsn = backfillLsn(epoch.origin.consistentPoint);
  const entries: BatchEntry[] = [];
  for (const [i, event] of events.entries()) {
    const position: Position = { commitLsn, seq: publishedBefore + i + 1 };
    entries.push(factory.tryMake(event, position) ?? (await factory.make(event, position)));
  }
  return entries;
}

export interface PublishedIds {
  readonly ids: Set<string>;
  /** Those of them that are in dead-letter topics and in no other. */
  readonly onlyDead: ReadonlySet<string>;
}

export interface PublishedIdsOptions {
  readonly control: Queryable;
  readonly sink: Sink;
  readonly routes: TopicRoutes;
  readonly checkpoint: Checkpoint;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * Ids of the events that Kafka holds in the outbox's topics, dead letters included: what a new epoch must not publish again. Those are the
 * topics of the routes as they are now, and all that the relay has written to before. Read after fencing, so that nobody adds to them. About
 * 100 bytes of memory an event. Ends early when the signal fires: nothing is published then.
 */
export async function readPublishedIds(options: PublishedIdsOptions): Promise<PublishedIds> {
  const { control, sink, routes, checkpoint, logger, signal } = options;
  const topics = new Set([...(await readEventTopics(control, routes)), ...topicsEver(checkpoint)]);
  const ids = new Set<string>();
  const onlyDead = new Set<string>();
  for await (const { id, topic } of sink.publishedIds([...topics])) {
    if (!topic.endsWith('.dlq')) onlyDead.delete(id);
    else if (!ids.has(id)) onlyDead.add(id);
    ids.add(id);
    if (signal.aborted) break;
    if (ids.size % 100_000 === 0) logger.info({ events: ids.size }, 'reading what Kafka holds already');
  }
  return { ids, onlyDead };
}
