/** A saga as a page of text, each command and reply with its place in the WAL and in Kafka. */
import type { Config } from '../config/variables.ts';
import { partitionOf } from '../events/partition.ts';
import { HEADER } from '../events/record.ts';
import { deadLetterTopic, topicRoutes } from '../events/routes.ts';
import type { SagaEvent, SagaFacts, SagaHistoryFacts } from '../ops/sagas.ts';
import { openEventLog } from './event-log.ts';
import { bold, plainTable, type Terminal } from './terminal.ts';

/** Where a command or a reply is in Kafka, as far as was looked. */
export interface RecordPlace {
  readonly topic: string;
  /** Null: not looked up, or not there (yet). */
  readonly partition: number | null;
  readonly offset: string | null;
  /** LSN of the commit; null until the record was found. */
  readonly commitLsn: string | null;
}

const READ_TIMEOUT_MS = 30_000;

/**
 * The places of events, by id. Their topics follow from the routes; `offsets` also reads the partitions of their keys from the beginning
 * until all are found, which takes as long as the partitions are. Throws PART_UNREACHABLE.
 */
export async function placeEvents(
  config: Config,
  events: readonly SagaEvent[],
  offsets: boolean,
): Promise<Map<string, RecordPlace>> {
  const routes = topicRoutes(config);
  const topicOf = ({ aggregateType, status }: SagaEvent) => {
    const topic = routes.tryTopicOf(aggregateType) ?? routes.unrouted;
    return status === 'dead-lettered' ? deadLetterTopic(topic) : topic;
  };
  const places = new Map<string, RecordPlace>(
    events.map((event) => [event.id, { topic: topicOf(event), partition: null, offset: null, commitLsn: null }]),
  );
  if (!offsets) return places;
  const log = await openEventLog(config);
  try {
    for (const [topic, inTopic] of Map.groupBy(events, topicOf)) {
      if (!(await log.topicExists(topic))) continue;
      const ranges = await log.log.ranges(topic, 'last-stable');
      for (const [key, wanted] of Map.groupBy(inTopic, (event) => event.key)) {
        const range = ranges[partitionOf(key, ranges.length)];
        const missing = new Set<string>(wanted.map(({ id }) => id));
        if (range === undefined) continue;
        for await (const { partition, offset, headers } of log.log.read(range, READ_TIMEOUT_MS)) {
          const id = headers[HEADER.id] ?? '';
          if (!missing.delete(id)) continue;
          places.set(id, { topic, partition, offset: String(offset), commitLsn: headers[HEADER.lsn] ?? null });
          if (missing.size === 0) break;
        }
      }
    }
  } finally {
    await log.close();
  }
  return places;
}

export function printSaga(terminal: Terminal, saga: SagaFacts, places: ReadonlyMap<string, RecordPlace>): void {
  terminal.print(`${bold(`saga ${saga.id}`)}  ${saga.name} version ${saga.version}, key ${saga.key}`);
  terminal.print(
    plainTable(
      [
        ['state', saga.cancelling ? `${saga.state}, to be undone after this step` : saga.state],
        ['step', saga.step === null ? '' : `${saga.step}, ${saga.tries} ${saga.tries === 1 ? 'try' : 'tries'}`],
        ['error', saga.errorCode === null ? '' : `${saga.error ?? ''} [${saga.errorCode}]`],
        ['started', saga.startedAt],
        ['last change', saga.changedAt],
        ['looked at', saga.dueAt ?? (saga.endedAt === null ? 'when an answer or an operator comes' : '')],
        ['trace', saga.traceId ?? ''],
      ].filter(([, value]) => value !== ''),
    ),
  );
  terminal.print();
  terminal.print(
    plainTable(
      saga.steps.map(({ step, state, attempt, undoAttempt, changedAt }) => {
        return [step, state, String(attempt), String(undoAttempt), changedAt];
      }),
      ['step', 'state', 'sent', 'undo sent', 'last change'],
    ),
  );
  terminal.print();
  if (saga.historyCut) terminal.print(`  (the newest ${saga.history.length} of its history)`);
  terminal.print(
    plainTable(
      saga.history.map((row) => historyRow(row, places)),
      ['at', 'cause', 'step', 'change', 'event', 'LSN', 'record', 'who and why'],
    ),
  );
}

function historyRow(row: SagaHistoryFacts, places: ReadonlyMap<string, RecordPlace>): string[] {
  const { at, cause, step, from, to, purpose, attempt, eventId, event, actor, reason } = row;
  const place = eventId === null ? undefined : places.get(eventId);
  return [
    at,
    purpose === null ? cause : `${cause} ${purpose} ${attempt}`,
    step ?? '(saga)',
    from === null || from === to ? to : `${from} → ${to}`,
    eventId === null ? '' : `${event?.type ?? ''} ${eventId}`.trim(),
    place?.commitLsn ?? event?.lsn ?? '',
    place === undefined ? '' : placeText(place, event),
    [actor, reason].filter((text) => text !== null).join(': '),
  ];
}

function placeText({ topic, partition, offset }: RecordPlace, event: SagaEvent | null): string {
  if (partition !== null && offset !== null) return `${topic}/${partition}@${offset}`;
  return event?.status === 'published' ? topic : `${topic} (${event?.status ?? 'unknown'})`;
}
