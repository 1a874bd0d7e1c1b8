/** Where events are in Kafka: the topic by the routes, and, for who wants to know, the very record. */
import type { Config } from '../config/variables.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic, topicRoutes } from '../events/routes.ts';
import { type EventId, eventIdTimeMs } from '../kernel/event-id.ts';
import { findRecords } from '../ops/record-finder.ts';
import type { EventStatus } from '../outbox/event-status.ts';
import { openEventLog } from './event-log.ts';

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

/** As `placesByRoute`, with the records. Rejects with PART_UNREACHABLE, or a DeadlineError where a partition cannot be read. */
export async function placesInKafka(config: Config, events: readonly PlacedEvent[]): Promise<EventPlaces> {
  const places = placesByRoute(config, events);
  const wanted = events.map(({ id, key }) => ({
    id,
    key,
    topic: places.get(id)?.topic ?? '',
    sinceMs: eventIdTimeMs(id),
  }));
  const log = await openEventLog(config);
  try {
    for (const [id, { topic, partition, offset, headers }] of (await findRecords(log, wanted)).records) {
      places.set(id, { topic, partition, offset: String(offset), commitLsn: headers[HEADER.lsn] ?? null });
    }
  } finally {
    await log.close();
  }
  return places;
}
