/**
 * The way of one event, put together from what each part knows: its row, its place in the WAL and in Kafka, who has applied it, what has gone
 * wrong with it, which saga it belongs to. Reads only, never the payload. What could not be looked at is said, and not taken for nothing.
 */
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import type { LogRecord } from '../kafka/log-reader.ts';
import { coerceError, describeError } from '../kernel/errors.ts';
import type { EventId } from '../kernel/event-id.ts';
import type { Queryable } from '../postgres/connection.ts';
import { type ConsumerFacts, readConsumers } from './lineage-consumers.ts';
import {
  type RowFacts,
  readRow,
  readSagaSteps,
  readTroubles,
  type SagaStepOfEvent,
  type TroubleFacts,
} from './lineage-facts.ts';
import { describePlace, type RecordPlace } from './lineage-record.ts';
import { type ReplayOfEvent, readReplays } from './lineage-replays.ts';

export interface EventLineage {
  readonly id: EventId;
  /** Null: no outbox that was looked at holds it. */
  readonly row: RowFacts | null;
  /** Its day was taken out of an outbox, so there may have been a row. */
  readonly dayDropped: boolean;
  /** Null: not found, or not looked for. */
  readonly record: RecordPlace | null;
  readonly consumers: readonly ConsumerFacts[];
  /** Dead letters, of relays and of consumers, and what was done about them. */
  readonly troubles: readonly TroubleFacts[];
  readonly replays: readonly ReplayOfEvent[];
  readonly sagaSteps: readonly SagaStepOfEvent[];
  /** What could not be looked at, or not be found, and why. */
  readonly unknown: readonly string[];
}

export interface LineageSources {
  /** All databases that may hold the event or its consumers' inboxes. */
  readonly databases: ReadonlyArray<{ readonly name: string; readonly db: Queryable; readonly relay: string }>;
  readonly routes: TopicRoutes;
  readonly records: RecordSource;
}

export interface RecordSource {
  /** The event's record; null where there is none, or none was found: `notFound` says it in words. */
  find(wanted: { id: string; topic: string; key: string; sinceMs: number }): Promise<FoundRecord>;
  /** Number of the subject's version with this schema id; null: the registry does not know. */
  versionOf(subject: string, schemaId: number): Promise<number | null>;
}

export type FoundRecord = { readonly record: LogRecord } | { readonly record: null; readonly notFound: string };

/** Null if nothing knows of an event of this id. */
export async function traceEvent(sources: LineageSources, id: EventId): Promise<EventLineage | null> {
  const unknown: string[] = [];
  const attempt = async <T>(what: string, fallback: T, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      unknown.push(`${what}: ${describeError(coerceError(error))}`);
      return fallback;
    }
  };
  const found = { rows: [] as RowFacts[], dayDropped: false };
  const consumers: ConsumerFacts[] = [];
  const troubles: TroubleFacts[] = [];
  const replays: ReplayOfEvent[] = [];
  const sagaSteps: SagaStepOfEvent[] = [];
  for (const { name, db, relay } of sources.databases) {
    await attempt(`database ${name}`, undefined, async () => {
      const { row, dayDropped } = await readRow(db, id, { database: name, relay });
      if (row !== null) found.rows.push(row);
      if (row !== null) replays.push(...(await readReplays(db, id, row.seq)));
      found.dayDropped ||= dayDropped;
      consumers.push(...(await readConsumers(db, id, name)));
      troubles.push(...(await readTroubles(db, id, name)));
    });
  }
  const { dayDropped, rows } = found;
  const [row] = rows;
  if (row === undefined) {
    if (consumers.length + troubles.length + unknown.length === 0 && !dayDropped) return null;
    return { id, row: null, dayDropped, record: null, consumers, troubles, replays, sagaSteps, unknown };
  }
  // The saga may be in another database than the row
  for (const { name, db } of sources.databases) {
    await attempt(`sagas of database ${name}`, undefined, async () => {
      sagaSteps.push(...(await readSagaSteps(db, id, row.key)));
    });
  }
  const record = await attempt('Kafka', null, () => placeOf(sources, row, unknown));
  return { id, row, dayDropped, record, consumers, troubles, replays, sagaSteps, unknown };
}

/** Says in `unknown` why there is none. */
async function placeOf(
  { routes, records }: LineageSources,
  row: RowFacts,
  unknown: string[],
): Promise<RecordPlace | null> {
  const ordinary = routes.tryTopicOf(row.aggregateType) ?? routes.unrouted;
  const topic = row.status === 'dead-lettered' ? deadLetterTopic(ordinary) : ordinary;
  const found = await records.find({ id: row.id, topic, key: row.key, sinceMs: Date.parse(row.recordedAt) });
  if (found.record === null) {
    unknown.push(
      row.status === 'pending' ? `record: the event is not known to be published yet` : `record: ${found.notFound}`,
    );
    return null;
  }
  return describePlace(found.record, (subject, schemaId) => records.versionOf(subject, schemaId));
}
