/**
 * Finds events' records in Kafka without reading whole topics: the key says which partition, the time of the event from where on, and a bound
 * how far. Kafka finds a time by its index of timestamps; a record's is that of its publishing, so never before the event was recorded.
 */
import { partitionOf } from '../events/partition.ts';
import { HEADER } from '../events/record.ts';
import type { LogReader, LogRecord } from '../kafka/log-reader.ts';

export interface WantedRecord {
  readonly id: string;
  readonly topic: string;
  readonly key: string;
  /** When the event was recorded, milliseconds since 1970: its record is not older. */
  readonly sinceMs: number;
}

export interface TopicLog {
  readonly log: Pick<LogReader, 'ranges' | 'read' | 'offsetSince'>;
  topicExists(topic: string): Promise<boolean>;
}

export interface FoundRecords {
  readonly records: ReadonlyMap<string, LogRecord>;
  /** Ids that were given up at the bound: they may stand behind it. */
  readonly givenUp: ReadonlySet<string>;
}

/** How far apart the clocks of database and brokers may be. */
const CLOCK_MARGIN_MS = 120_000;
const READ_TIMEOUT_MS = 30_000;
/** Records of one partition that are looked at; behind a relay that was away for long there may be more. */
const MAX_RECORDS = 200_000;

/** The first record of each event. Rejects with a DeadlineError where a partition cannot be read. */
export async function findRecords(source: TopicLog, wanted: readonly WantedRecord[]): Promise<FoundRecords> {
  const records = new Map<string, LogRecord>();
  const givenUp = new Set<string>();
  for (const [topic, inTopic] of Map.groupBy(wanted, (event) => event.topic)) {
    if (!(await source.topicExists(topic))) continue;
    for (const ofKey of Map.groupBy(inTopic, ({ key }) => key).values()) {
      for (const id of await findOfKey(source, topic, ofKey, records)) givenUp.add(id);
    }
  }
  return { records, givenUp };
}

/** Enters what is found; resolves with the ids that were given up. */
async function findOfKey(
  { log }: TopicLog,
  topic: string,
  wanted: readonly WantedRecord[],
  records: Map<string, LogRecord>,
): Promise<ReadonlySet<string>> {
  const [first] = wanted;
  const ranges = await log.ranges(topic, 'last-stable');
  const range = first === undefined ? undefined : ranges[partitionOf(first.key, ranges.length)];
  if (range === undefined) return new Set();
  const missing = new Set(wanted.map(({ id }) => id));
  const sinceMs = Math.min(...wanted.map((event) => event.sinceMs)) - CLOCK_MARGIN_MS;
  const from = (await log.offsetSince(topic, range.partition, sinceMs)) ?? range.to;
  let looked = 0;
  for await (const record of log.read({ ...range, from: from > range.from ? from : range.from }, READ_TIMEOUT_MS)) {
    const id = record.headers[HEADER.id] ?? '';
    if (missing.delete(id)) records.set(id, record);
    if (missing.size === 0) break;
    looked += 1;
    if (looked === MAX_RECORDS) return missing;
  }
  return new Set();
}
