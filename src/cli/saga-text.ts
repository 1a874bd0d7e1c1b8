/** A saga as a page of text, each command and reply with its place in the WAL and in Kafka. */
import type { SagaEvent, SagaFacts, SagaHistoryFacts } from '../ops/sagas.ts';
import type { EventPlace, EventPlaces } from './event-places.ts';
import { bold, oneLine, plainTable, type Terminal } from './terminal.ts';

export function printSaga(terminal: Terminal, saga: SagaFacts, places: EventPlaces): void {
  terminal.print(`${bold(`saga ${saga.id}`)}  ${saga.name} version ${saga.version}, key ${saga.key}`);
  terminal.print(
    plainTable(
      [
        ['state', saga.cancelling ? `${saga.state}, to be undone after this step` : saga.state],
        ['step', saga.step === null ? '' : `${saga.step}, ${saga.tries} ${saga.tries === 1 ? 'try' : 'tries'}`],
        ['error', saga.errorCode === null ? '' : `${oneLine(saga.error ?? '')} [${saga.errorCode}]`],
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

function historyRow(row: SagaHistoryFacts, places: EventPlaces): string[] {
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
    oneLine([actor, reason].filter((text) => text !== null).join(': ')),
  ];
}

function placeText({ topic, partition, offset }: EventPlace, event: SagaEvent | null): string {
  if (partition !== null && offset !== null) return `${topic}/${partition}@${offset}`;
  return event?.status === 'published' ? topic : `${topic} (${event?.status ?? 'unknown'})`;
}
