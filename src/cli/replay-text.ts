/** Replays as the terminal shows them. */
import type { ReplayFacts, ReplayPreview } from '../ops/replays.ts';
import type { Selection } from '../replay/selection.ts';
import type { Replay } from '../replay/store.ts';
import { bold, plainTable, type Terminal } from './terminal.ts';

/** One line: how far it is. */
export function progressOf({ state, checked, selected, emitted, leftOut, errorCode }: Replay): string {
  const rows = selected.toLocaleString('en');
  const done = `${emitted.toLocaleString('en')} of ${rows} published${leftOut > 0n ? `, ${leftOut} left out` : ''}`;
  const progress = checked ? done : `${rows} rows looked through`;
  return `${state}: ${progress}${errorCode === null ? '' : ` [${errorCode}]`}`;
}

const LIST_HEAD = ['replay', 'state', 'selected', 'published', 'to', 'started', 'by', 'reason'];

export function replayTable(replays: readonly Replay[]): string {
  const rows = replays.map((job) => [
    ...[job.id, job.state, String(job.selected), String(job.emitted), job.topic ?? 'their own topics'],
    ...[job.startedAt, job.requestedBy, job.reason],
  ]);
  return plainTable(rows, LIST_HEAD);
}

export function printReplay(terminal: Terminal, job: ReplayFacts): void {
  const { firstEventId, lastEventId } = job;
  const rows = [
    ['replay', job.id],
    ['state', progressOf(job)],
    ['selects', selectionText(job.selection)],
    ['events', firstEventId === null ? 'none' : `${firstEventId} … ${lastEventId}`],
    ['to', job.topic ?? 'the topic where each was'],
    ['ids', job.newIds ? 'new ones, with ferry_replay_of' : 'the original ones'],
    ['schema', job.schemaId === null ? 'as they were' : `encoded with ${job.schemaId}`],
    ['rate', `${job.eventsPerSecond} events a second`],
    [
      'relay',
      `${job.relay}, ${job.relayLagBytes === null ? 'without a slot' : `${job.relayLagBytes} bytes of WAL behind`}`,
    ],
    ['reason', `${job.reason} (${job.requestedBy})`],
    ['time', `${job.startedAt} … ${job.endedAt ?? ''}`],
  ];
  terminal.print(plainTable(rows));
  if (job.error !== null) terminal.print(`\n  ${job.error}  [${job.errorCode}]`);
  if (job.unfitExamples.length === 0) return;
  terminal.print();
  const unfit = job.unfitExamples.map(({ eventId, code, message }) => [eventId, code, message]);
  terminal.print(plainTable(unfit, ['row', 'code', 'why it does not fit']));
}

/** What a replay would be about. */
export function preparePreview({ events, lines, first, last, topics }: ReplayPreview): string {
  if (events === 0) return 'no row of the outbox is like that';
  const counted = lines.map((line) => [
    ...[line.aggregateType, line.type, line.topic, String(line.events), String(line.deadLettered)],
    String(line.schemaUnknown),
  ]);
  const seen = topics.map(({ topic, groups }) => [topic, groups.length === 0 ? 'nobody' : groups.join(', ')]);
  const ends = [first, last].flatMap((event, i) =>
    event === null ? [] : [[i === 0 ? 'first' : 'last', event.id, event.recordedAt]],
  );
  return [
    bold(`${events.toLocaleString('en')} events; nothing was published`),
    plainTable(counted, ['aggregate', 'type', 'topic', 'events', 'dead letters', 'schema unknown']),
    plainTable(ends),
    plainTable(seen, ['goes to', 'groups that have read there']),
  ].join('\n\n');
}

function selectionText(selection: Selection): string {
  const { eventIds, ...rest } = selection;
  const others = Object.entries(rest).flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]));
  return [...(eventIds === null ? [] : [`${eventIds.length} event ids`]), ...others].join(', ');
}
