/** Where events are in Kafka: the topic by the routes, and, for who wants to know, the very record. */
import type { Config } from '../config/variables.ts';
import { partitionOf } from '../events/partition.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic, topicRoutes } from '../events/routes.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { EventStatus } from '../outbox/event-status.ts';
import { type EventLog, openEventLog } from './event-log.ts';

export interface PlacedEvent {
  readonly id: EventId;
  readonly aggregateType: string;
  readonly key: string;
  readonly status: EventStatus;
}

/** Partition, offset and LSN are null where nobody looked, or where the record is not (yet). */
export interface EventPlace {
  readonly topic: string;
  readonly partition: number | null;
  readonly offset: string | null;
  /** Of the transaction that wrote the event. */
  readonly commitLsn: string | null;
}

export type EventPlaces = ReadonlyMap<string, EventPlace>;

const READ_TIMEOUT_MS = 30_000;

/** The topics of events, by event id. */
export function placesByRoute(config: Config, events: readonly PlacedEvent[]): Map<string, EventPlace> {
  const routes = topicRoutes(config);
  return new Map(
    events.map(({ id, aggregateType, status }) => {
      const ordinary = routes.tryTopicOf(aggregateType) ?? routes.unrouted;
      const topic = status === 'dead-lettered' ? deadLetterTopic(ordinary) : ordinary;
      return [id, { topic, partition: null, offset: null, commitLsn: null }];
    }),
  );
}

/**
 * As `placesByRoute`, with the records: reads the partitions of the events' keys from the beginning until all are found, which takes as long
 * as the partitions are. Rejects with PART_UNREACHABLE, or a DeadlineError where a partition cannot be read.
 */
export async function placesInKafka(config: Config, events: readonly PlacedEvent[]): Promise<EventPlaces> {
  const places = placesByRoute(config, events);
  const byTopic = Map.groupBy(events, ({ id }) => places.get(id)?.topic ?? '');
  const log = await openEventLog(config);
  try {
    for (const [topic, inTopic] of byTopic) {
      for (const wanted of Map.groupBy(inTopic, ({ key }) => key).values()) await find(log, topic, wanted, places);
    }
  } finally {
    await log.close();
  }
  return places;
}

/** Enters the places of events of one topic and key. */
async function find(
  { log, topicExists }: EventLog,
  topic: string,
  wanted: readonly PlacedEvent[],
  places: Map<string, EventPlace>,
): Promise<void> {
  const [first] = wanted;
  if (first === undefined || !(await topicExists(topic))) return;
  const ranges = await log.ranges(topic, 'last-stable');
  const range = ranges[partitionOf(first.key, ranges.length)];
  if (range === undefined) return;
  const missing = new Set<string>(wanted.map(({ id }) => id));
  for await (const { partition, offset, headers } of log.read(range, READ_TIMEOUT_MS)) {
    const id = headers[HEADER.id] ?? '';
    if (!missing.delete(id)) continue;
    places.set(id, { topic, partition, offset: String(offset), commitLsn: headers[HEADER.lsn] ?? null });
    if (missing.size === 0) return;
  }
}
