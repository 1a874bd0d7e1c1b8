/** Dead letters as text for a terminal. */
import { stringifyExactJson } from '../kernel/exact-json.ts';
import type { DeadLetterView } from '../ops/dead-letter-view.ts';
import type { DeadLetterCause, DeadLetterSummary } from '../ops/dead-letters.ts';
import type { Session } from './session.ts';
import { bold, plainTable, type Terminal } from './terminal.ts';

const LIST_HEAD = ['dead letter', 'whose', 'type', 'key', 'error', 'state', 'failed at', 'copies', 'retries'];

export function printLetters({ json, terminal }: Session, letters: readonly DeadLetterSummary[], more: boolean): void {
  if (json) {
    terminal.printJson({ deadLetters: letters, more });
    return;
  }
  const rows = letters.map((letter) => [
    ...[letter.id, whose(letter.group), letter.type ?? '', oneLine(letter.key ?? '')],
    ...[oneLine(letter.code), letter.state, letter.failedAt, String(letter.copies), String(letter.retries)],
  ]);
  terminal.print(letters.length === 0 ? 'no dead letter is like that' : plainTable(rows, LIST_HEAD));
  if (more) terminal.note('there are more: narrow them down, or raise --limit');
}

const CAUSES_HEAD = ['count', 'whose', 'from topic', 'type', 'error', 'first', 'last', 'for example', 'message'];

export function printCauses({ json, terminal }: Session, causes: readonly DeadLetterCause[]): void {
  if (json) {
    terminal.printJson({ causes });
    return;
  }
  const rows = causes.map((cause) => [
    ...[String(cause.count), whose(cause.group), cause.sourceTopic, cause.type ?? '', oneLine(cause.code)],
    ...[cause.firstFailedAt, cause.lastFailedAt, cause.example, oneLine(cause.exampleMessage).slice(0, 100)],
  ]);
  terminal.print(causes.length === 0 ? 'no dead letter is like that' : plainTable(rows, CAUSES_HEAD));
}

export function printLetter(terminal: Terminal, letter: DeadLetterView): void {
  terminal.print(`${bold(`dead letter ${letter.id}`)}  ${letter.state} since ${letter.stateAt}`);
  const decided = [letter.stateBy, letter.stateReason].filter((text) => text !== null).join(': ');
  terminal.print(
    plainTable(
      [
        ['whose', whose(letter.group)],
        ['event', `${letter.type ?? ''} ${letter.eventId ?? '(no event id)'}`.trim()],
        ['key', letter.key ?? ''],
        ['came from', `${letter.sourceTopic} ${letter.sourcePosition}`],
        ['error', `${letter.errorMessage} [${letter.code}] ${letter.errorType}`],
        ['waits behind', letter.blockedBy ?? ''],
        [
          'failed',
          `${letter.failedAt}, first ${letter.firstFailedAt}, ${letter.retryCount} of ${letter.maxRetries} retries`,
        ],
        ['replayable', letter.replayable ? 'the same bytes may succeed' : 'not without an edit, a schema or a release'],
        [
          'stands in',
          `${letter.topic}/${letter.partition}@${letter.offset}${letter.copies === 1 ? '' : `, ${letter.copies} copies`}`,
        ],
        ['original', letter.originalRecord === 'value' ? '' : letter.originalRecord],
        ['decided', decided],
        ['owner told', letter.toldAt ?? ''],
      ]
        .map(([name = '', value = '']) => [name, oneLine(value)])
        .filter(([, value]) => value !== ''),
    ),
  );
  terminal.print();
  terminal.print(
    plainTable(
      Object.entries(letter.headers).map(([name, value]) => [oneLine(name), oneLine(value)]),
      ['header', 'value'],
    ),
  );
  terminal.print();
  terminal.print(letter.decoded ? indented(letter.payload) : 'payload: cannot be read as JSON, or by its schema');
  if (letter.patched !== null) terminal.print(`\npatched:\n${indented(letter.patched)}`);
}

/** Exact, and then spread over lines: numbers keep their digits. */
function indented(value: unknown): string {
  const text = stringifyExactJson(value);
  const parsed: unknown = JSON.parse(text);
  const spread = JSON.stringify(parsed, null, 2);
  return JSON.stringify(parsed) === text ? spread : text;
}

function whose(group: string | null): string {
  return group ?? '(relay)';
}

/** Keys, headers and messages may hold anything, also what a terminal would obey. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ');
}
