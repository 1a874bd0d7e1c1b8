/**
 * Publishes the rows that were committed before the slot existed, in order of insertion, before anything is read from the slot: so a key's
 * older events always come first. Exactly once like everything else: how far it got stands in the checkpoint of the same transactions.
 * At the first start those are the rows written before the relay; after a reset, whatever of them Kafka does not hold already.
 */
import type { Position } from '../events/outbox-event.ts';
import type { TopicRoutes } from '../events/routes.ts';
import { readEventTopics } from '../outbox/event-topics.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { BatchEntry, BatchLimits } from './batch.ts';
import { backfillLsn, type Checkpoint, topicsEver } from './checkpoint.ts';
import type { ReadyEpoch } from './epoch.ts';
import { declareBackfillCursor, fetchBackfill } from './ledger.ts';
import type { Publisher } from './publisher.ts';
import type { RecordFactory } from './record-factory.ts';
import type { Sink } from './sink.ts';

export interface BackfillOptions {
  /** A connection of its own: the cursor's transaction is open all the while. */
  readonly client: Queryable;
  readonly epoch: ReadyEpoch;
  readonly factory: RecordFactory;
  readonly publisher: Publisher;
  /** Ids that are in Kafka already, of an earlier epoch. */
  readonly published: ReadonlySet<string>;
  readonly limits: BatchLimits;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** Rows in memory at once. */
const FETCH_ROWS = 500;

/** Resolves when no such row is left, or early when the signal fires. Safe to repeat after a crash. */
export async function backfill(options: BackfillOptions): Promise<void> {
  const { client, epoch, publisher, factory, published, limits, signal, logger } = options;
  const start = publisher.checkpoint.backfill;
  if (start === null) return;
  await client.query('begin isolation level repeatable read read only');
  await declareBackfillCursor(client, epoch.origin.snapshot, start.rowSeq);
  let count = start.count;
  while (!signal.aborted) {
    const events = await fetchBackfill(client, Math.min(limits.maxEvents, FETCH_ROWS));
    if (events.length === 0) {
      await publisher.publishBackfill([], null);
      if (count > 0) logger.info({ events: count }, 'rows older than the slot are published');
      break;
    }
    let entries: BatchEntry[] = [];
    let bytes = 0;
    for (const event of events) {
      if (!published.has(event.id)) {
        count += 1;
        const position: Position = { commitLsn: backfillLsn(epoch.origin.consistentPoint), seq: count };
        const entry = factory.tryMake(event, position) ?? (await factory.make(event, position));
        entries.push(entry);
        bytes += entry.bytes;
      }
      if (entries.length === 0 || (bytes < limits.maxBytes && event !== events.at(-1))) continue;
      await publisher.publishBackfill(entries, { rowSeq: event.seq, count });
      entries = [];
      bytes = 0;
    }
    logger.info({ events: count }, 'publishing rows that are older than the slot');
  }
  await client.query('commit');
}

export interface PublishedIds {
  readonly ids: Set<string>;
  /** Those of them that are in dead-letter topics and in no other. */
  readonly onlyDead: ReadonlySet<string>;
}

export interface PublishedIdsOptions {
  readonly client: Queryable;
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
  const { client, sink, routes, checkpoint, logger, signal } = options;
  const topics = new Set([...(await readEventTopics(client, routes)), ...topicsEver(checkpoint)]);
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
