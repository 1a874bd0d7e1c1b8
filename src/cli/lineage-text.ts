/** The way of an event as a page of text. */
import type { EventLineage } from '../ops/lineage.ts';
import type { RecordPlace } from '../ops/lineage-record.ts';
import { bold, oneLine, plainTable } from './terminal.ts';

export function lineageText(lineage: EventLineage): string {
  const { id, row, record, consumers, troubles, replays, sagaSteps, unknown } = lineage;
  const parts = [
    `${bold(`event ${id}`)}  ${row === null ? '' : `${row.type}, ${row.status}`}`.trimEnd(),
    plainTable([...rowLines(lineage), ...recordLines(record)]),
    section(
      'consumers',
      consumers.map(({ group, outcome, processedAt, database }) => [group, outcome, processedAt, inDatabase(database)]),
    ),
    section(
      'dead letters and actions',
      troubles.map(({ owner, code, at, detail, database }) => [owner, code, at, detail ?? '', inDatabase(database)]),
    ),
    section(
      'replays',
      replays.map(({ replayId, state, passed, topic, newIds, reason }) => [
        replayId,
        state,
        passed ? `published again${newIds ? ' under a new id' : ''}` : 'not yet published again',
        topic ?? '',
        reason,
      ]),
    ),
    section(
      'saga',
      sagaSteps.map(({ sagaId, name, state, step, cause, purpose, attempt, at }) => [
        `${name} ${sagaId}`,
        state,
        `${step ?? '(saga)'}: ${cause}${purpose === null ? '' : ` ${purpose} ${attempt ?? ''}`}`.trimEnd(),
        at,
      ]),
    ),
    section(
      'not known',
      unknown.map((what) => [what]),
    ),
  ];
  return parts.join('\n');
}

function inDatabase(database: string): string {
  return database === 'main' ? '' : `database ${database}`;
}

/** A heading even where there is nothing, so that nobody wonders. */
function section(name: string, lines: readonly string[][]): string {
  return lines.length === 0
    ? `${bold(name)}: none`
    : `${bold(name)}\n${plainTable(lines.map((line) => line.map(oneLine)))}`;
}

function rowLines({ row, dayDropped }: EventLineage): string[][] {
  if (row === null) {
    return [['row', dayDropped ? 'none: its day has been dropped from the outbox' : 'none in any outbox']];
  }
  const version = row.aggregateVersion === null ? '' : `, version ${row.aggregateVersion}`;
  return [
    ['aggregate', `${row.aggregateType} ${oneLine(row.key)}${version}`],
    ['row', `seq ${row.seq}, recorded ${row.recordedAt}${row.database === 'main' ? '' : `, database ${row.database}`}`],
    ['transaction', `${row.transaction}, inserted at ${row.insertedLsn}`],
    ['trace', row.traceId ?? 'none'],
  ];
}

function recordLines(record: RecordPlace | null): string[][] {
  if (record === null) return [['record', 'not known']];
  const { topic, partition, offset, publishedAt, commitLsn, seq, schema, errorCode } = record;
  return [
    [
      'record',
      `${topic}/${partition}@${offset}, published ${publishedAt}${errorCode === null ? '' : `, ${errorCode}`}`,
    ],
    ['commit', `LSN ${commitLsn ?? '?'}, seq ${seq ?? '?'}`],
    ['schema', schema === null ? 'none' : `${schema.subject} version ${schema.version ?? '?'} (id ${schema.id})`],
  ];
}
