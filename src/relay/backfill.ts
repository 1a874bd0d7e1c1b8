/**
 * Publishes the rows that were committed before the slot existed, in order of insertion, before anything is read from the slot: so a key's
 * older events always come first. Exactly once like everything else: how far it got stands in the checkpoint of the same transactions.
 */
import type { Position } from '../events/outbox-event.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { BatchEntry, BatchLimits } from './batch.ts';
import type { ReadyEpoch } from './epoch.ts';
import { declareBackfillCursor, fetchBackfill } from './ledger.ts';
import type { Publisher } from './publisher.ts';
import type { RecordFactory } from './record-factory.ts';

export interface BackfillOptions {
  /** A connection of its own: the cursor's transaction is open all the while. */
  readonly client: Queryable;
  readonly epoch: ReadyEpoch;
  readonly factory: RecordFactory;
  readonly publisher: Publisher;
  readonly limits: BatchLimits;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** Rows in memory at once. */
const FETCH_ROWS = 500;

/** Resolves when no such row is left, or early when the signal fires. Safe to repeat after a crash. */
export async function backfill(options: BackfillOptions): Promise<void> {
  const { client, epoch, publisher, factory, limits, signal, logger } = options;
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
      count += 1;
      const position: Position = { commitLsn: epoch.origin.consistentPoint, seq: count };
      const entry = factory.tryMake(event, position) ?? (await factory.make(event, position));
      entries.push(entry);
      bytes += entry.bytes;
      if (bytes < limits.maxBytes && event !== events.at(-1)) continue;
      await publisher.publishBackfill(entries, { rowSeq: event.seq, count });
      entries = [];
      bytes = 0;
    }
    logger.info({ events: count }, 'publishing rows that are older than the slot');
  }
  await client.query('commit');
}
