/** Counts the real thing: the outbox in Postgres against the records in Kafka, by the rules of `integrity.ts`. */

import type { EventDecoder } from '../events/decoder.ts';
import type { Position } from '../events/outbox-event.ts';
import { HEADER } from '../events/record.ts';
import type { TopicRoutes } from '../events/routes.ts';
import type { LogReader, LogRecord, PartitionRange } from '../kafka/log-reader.ts';
import { FerryError } from '../kernel/errors.ts';
import { parseLsn } from '../kernel/lsn.ts';
import { readEventTopics } from '../outbox/event-topics.ts';
import type { Pool } from '../postgres/connection.ts';
import { countIntegrity, type IntegrityReport, type LedgerRow, type PublishedRecord } from './integrity.ts';
import { readLedger, readRetired } from './ledger.ts';

export interface CountSources {
  /** Of the databases whose outboxes are counted, together: the topics may hold nothing but what is in one of them. */
  readonly outboxes: readonly Pool[];
  /** Reads under read_committed, up to a high watermark. */
  readonly log: Pick<LogReader, 'ranges' | 'read'>;
  /** Whether Kafka has the topic; one to which nothing was sent yet does not exist. */
  readonly topicExists: (topic: string) => Promise<boolean>;
  readonly decoder: EventDecoder;
  readonly routes: TopicRoutes;
}

/** How long an open Kafka transaction may hide the records behind it before the reading fails: past any transaction time-out of ours. */
const READ_TIMEOUT_MS = 90_000;

/**
 * Counts all events of the outboxes. The ends of the topics are taken before the snapshot of any outbox, so that under load no record is
 * without its row; what is committed and not yet published counts as missing, so wait for quiet where that matters. Rejects when a part
 * cannot be read to the end: a count is whole or none.
 */
export async function countEvents(sources: CountSources): Promise<IntegrityReport> {
  const { outboxes, routes } = sources;
  const topics = new Set<string>();
  for (const pool of outboxes) for (const topic of await readEventTopics(pool, routes)) topics.add(topic);
  const ranges: PartitionRange[] = [];
  for (const topic of topics) {
    if (await sources.topicExists(topic)) ranges.push(...(await sources.log.ranges(topic)));
  }
  return countIntegrity(readLedgers(outboxes), readRecords(sources, ranges));
}

async function* readLedgers(outboxes: readonly Pool[]): AsyncGenerator<LedgerRow> {
  for (const pool of outboxes) yield* readLedger(pool);
}

/** Begins when the ledger has been read, so that a day which went after that is known to have gone. */
async function* readRecords(
  { log, decoder, outboxes }: Pick<CountSources, 'log' | 'decoder' | 'outboxes'>,
  ranges: readonly PartitionRange[],
): AsyncGenerator<PublishedRecord> {
  const isRetired = await readRetired(outboxes);
  for (const range of ranges) {
    const deadLetter = range.topic.endsWith('.dlq');
    for await (const record of log.read(range, READ_TIMEOUT_MS)) {
      yield {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        key: record.key === null ? null : record.key.toString(),
        id: record.headers[HEADER.id] ?? null,
        position: positionOf(record),
        deadLetter,
        replayed: record.headers[HEADER.replayId] !== undefined,
        release: releaseOf(record),
        decoded: deadLetter || (await decodes(decoder, record.value)),
        retired: isRetired(record.headers[HEADER.id] ?? ''),
      };
    }
  }
}

function positionOf({ headers }: LogRecord): Position | null {
  const lsn = headers[HEADER.lsn];
  const seq = headers[HEADER.seq];
  if (lsn === undefined || seq === undefined || !/^\d{1,15}$/.test(seq)) return null;
  try {
    return { commitLsn: parseLsn(lsn), seq: Number(seq) };
  } catch {
    return null;
  }
}

function releaseOf({ headers }: LogRecord): PublishedRecord['release'] {
  if (headers[HEADER.release] === undefined) return null;
  return headers[HEADER.releasedAlone] === 'true' ? 'alone' : 'key';
}

/** A registry that does not answer says nothing about the value, so that is no answer here either. */
async function decodes(decoder: EventDecoder, value: Buffer | null): Promise<boolean> {
  if (value === null) return true; // a tombstone
  try {
    await decoder.decode(value);
    return true;
  } catch (error) {
    if (error instanceof FerryError && error.code === 'REGISTRY_UNAVAILABLE') throw error;
    return false;
  }
}
