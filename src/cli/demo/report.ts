/** What the demo says at its end: one event's way, the counts, and what to try next. */
import { stringifyExactJson } from '../../kernel/exact-json.ts';
import { FAULTS, isSound } from '../../reconcile/integrity.ts';
import { REPOSITORY, type Session } from '../session.ts';
import { bold, cyan, dim, green, plainTable, red } from '../terminal.ts';
import type { DemoOptions, DemoOutcome } from './outcome.ts';
import type { EventPath } from './proof.ts';
import { isFulfilled } from './saga-proof.ts';

/** The line of `--json`. */
export function summaryOf({ traffic, kills, integrity, outboxes, sagas, seconds }: DemoOutcome) {
  return {
    requested: traffic.requested,
    orders: traffic.accepted,
    refused: traffic.refused,
    replayedKeys: traffic.replayedKeys,
    outboxRows: integrity.outboxRows,
    outboxes,
    published: integrity.published,
    deadLettered: integrity.deadLettered,
    missing: integrity.missing,
    duplicates: integrity.duplicates,
    outOfOrder: integrity.outOfOrder,
    undecodable: integrity.undecodable,
    relayKills: kills.length,
    sagas: sagas.sagas,
    completed: sagas.completed,
    compensated: sagas.compensated,
    stuck: sagas.stuck,
    ledgerImbalance: sagas.ledgerImbalance,
    stockMismatch: sagas.stockMismatch,
    ordersInLimbo: sagas.ordersInLimbo,
    seconds: Math.round(seconds * 10) / 10,
  };
}

/** For people; with `--json` nothing but the summary is printed. */
export function printReport(session: Session, options: DemoOptions, outcome: DemoOutcome): void {
  if (session.json) return;
  const { terminal } = session;
  if (outcome.path !== null) {
    terminal.print(`\n${bold('One event’s way')}`);
    terminal.print(pathText(outcome.path, outcome));
  }
  terminal.print(`\n${bold('The proof')}`);
  terminal.print(proofText(outcome));
  terminal.print(`\n${verdict(outcome)}\n`);
  terminal.print(bold('Try next'));
  for (const command of nextCommands(session, options)) terminal.print(`  ${cyan(command)}`);
}

function pathText({ outbox, record }: EventPath, { traffic }: DemoOutcome): string {
  const placed = traffic.placedEvents.find(({ eventId }) => eventId === outbox.id);
  return plainTable([
    [dim('request'), `POST /v1/orders → order ${placed?.orderId}`],
    [
      dim('outbox row'),
      `${outbox.id}  ${dim(`seq ${outbox.seq}, transaction ${outbox.transaction}, ${outbox.recordedAt}`)}`,
    ],
    [dim('WAL'), `commit LSN ${record.lsn}, message ${record.seq} of its transaction`],
    [
      dim('Kafka'),
      `${record.topic}, partition ${record.partition}, offset ${record.offset}  ${dim(`key ${record.key}`)}`,
    ],
    [dim('decoded'), `${record.type} ${dim(`by schema ${record.schemaId}`)}`],
    ['', shorten(stringifyExactJson(record.value), 150)],
  ]);
}

function proofText({ traffic, kills, otherKills, integrity, outboxes, sagas }: DemoOutcome): string {
  const count = (value: number) => value.toLocaleString('en');
  const downs = kills.map(({ backAfterMs }) => `${(backAfterMs / 1000).toFixed(2)} s`).join(', ');
  const behind = kills.map(({ unconfirmedBytes }) => `${Math.ceil(unconfirmedBytes / 1024)} kB`).join(', ');
  const zero = (value: number) => (value === 0 ? green('0') : red(count(value)));
  return plainTable([
    [
      'orders requested',
      count(traffic.requested),
      dim(`${count(traffic.accepted)} accepted, ${count(traffic.refused)} refused by business rules`),
    ],
    ['cancelled by customers', count(traffic.cancelled), dim(`${count(traffic.tooLate)} more came too late`)],
    ['keys sent twice', count(traffic.replayedKeys), dim('each answered the same again, nothing written')],
    [
      'relay killed',
      `${kills.length} ×`,
      kills.length === 0 ? '' : dim(`with ${behind} of WAL unconfirmed; publishing again after ${downs}`),
    ],
    ['others killed', othersText(otherKills)],
    ['outbox rows', bold(count(integrity.outboxRows)), dim(`counted in Postgres${outboxesText(outboxes)}`)],
    ['distinct events in Kafka', bold(count(integrity.published)), dim('read under read_committed')],
    ['dead letters', count(integrity.deadLettered)],
    ...FAULTS.map((fault) => [FAULT_NAMES[fault], zero(integrity[fault])]),
    [
      'fulfilments',
      bold(count(sagas.sagas)),
      dim(`${count(sagas.completed)} completed, ${count(sagas.compensated)} undone`),
    ],
    ['not ended', zero(sagas.stuck)],
    ['orders in limbo', zero(sagas.ordersInLimbo)],
    ['money that does not balance', zero(sagas.ledgerImbalance), dim('ledger, orders and payment provider compared')],
    ['pieces that do not add up', zero(sagas.stockMismatch), dim('stock = received − shipped, nothing reserved')],
  ]);
}

function outboxesText(outboxes: DemoOutcome['outboxes']): string {
  const each = Object.entries(outboxes).map(([database, rows]) => `${rows.toLocaleString('en')} of ${database}`);
  return each.length === 1 ? '' : `: ${each.join(', ')}`;
}

function othersText(kills: Readonly<Record<string, number>>): string {
  const texts = Object.entries(kills).map(([name, times]) => `${name} ${times} ×`);
  return texts.length === 0 ? '0 ×' : texts.join(', ');
}

const FAULT_NAMES: Readonly<Record<(typeof FAULTS)[number], string>> = {
  missing: 'missing',
  duplicates: 'duplicates',
  outOfOrder: 'out of order per aggregate',
  undecodable: 'undecodable',
  unexpected: 'without a row',
};

function verdict({ integrity, sagas, seconds }: DemoOutcome): string {
  const time = dim(`(${seconds.toFixed(1)} s in all)`);
  if (isSound(integrity) && isFulfilled(sagas)) {
    const text =
      'Every committed event is in Kafka exactly once, in order; every order is completed, or wholly undone.';
    return `${green('✔')} ${bold(text)} ${time}`;
  }
  const examples = FAULTS.flatMap((fault) =>
    integrity.examples[fault].map((example) => `  ${FAULT_NAMES[fault]}: ${example}`),
  );
  const money = sagas.examples.map((example) => `  ${example}`);
  return [`${red('✖')} ${bold('The proof failed.')} ${time}`, ...examples, ...money].join('\n');
}

function nextCommands({ home }: Session, { keep }: DemoOptions): string[] {
  const ferry = process.cwd() === REPOSITORY ? './ferry' : `${REPOSITORY}/ferry`;
  if (keep === true) {
    const at = `--home ${home.directory}`;
    return [`${ferry} status ${at}`, `${ferry} tail ${at} --from-beginning`, `${ferry} down ${at}`];
  }
  return [
    `${ferry} up                                  ${dim('# the same for development, with curl lines')}`,
    `${ferry} demo --orders 5000 --failure-rate 0.2 --kill-relay 10 --kill-others 3  ${dim('# harder')}`,
    `${ferry} demo --databases apart              ${dim('# payment, inventory and shipping with a database each')}`,
    `${ferry} demo --keep                         ${dim('# leave it running and look around')}`,
  ];
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
