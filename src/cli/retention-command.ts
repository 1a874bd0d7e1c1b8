/** `./ferry retention`: drops the days of the outbox that nothing needs any more, and says why others stay. */
import { userInfo } from 'node:os';
import type { DatabaseName } from '../config/databases.ts';
import { FerryError } from '../kernel/errors.ts';
import { armFailPoint } from '../kernel/fail-point.ts';
import { type DayReport, runRetention } from '../ops/retention.ts';
import { createPool } from '../postgres/connection.ts';
import { SerialClient } from '../postgres/serial-client.ts';
import { type CommonOptions, requireDatabase, type Session, sessionConfig } from './session.ts';
import { plainTable } from './terminal.ts';

export interface RetentionOptions extends CommonOptions {
  readonly dryRun?: boolean;
  readonly days?: number;
  /** Each has an outbox of its own. */
  readonly database: DatabaseName;
}

/** Throws CONFIG_INVALID where everything is kept, CONFLICT while another process is at it. */
export async function runRetentionCommand(session: Session, options: RetentionOptions): Promise<void> {
  const { days, dryRun = false } = options;
  const { json, terminal } = session;
  const main = sessionConfig(session);
  const config = requireDatabase(main, options.database);
  const daysKept = days ?? config.OUTBOX_RETENTION;
  if (daysKept === 0) {
    throw new FerryError('CONFIG_INVALID', 'OUTBOX_RETENTION is 0: everything is kept; set it, or give --days');
  }
  const actor = { principal: `cli:${userInfo().username}`, requestId: null };
  const failPoint = armFailPoint(config.FERRY_FAIL_POINT);
  const deadLetters = createPool(main, 'ferry retention', { max: 1 });
  const db = await SerialClient.connect(config, 'ferry retention', () => {});
  try {
    const what = `looking at the days of the outbox that are older than ${daysKept} days`;
    const reports = await terminal.step(what, (update) => {
      const onDay = ({ day, outcome }: DayReport) => update(`${what}: ${day} ${outcome}`);
      return runRetention({ db, deadLetters, daysKept, dryRun, actor, failPoint, onDay });
    });
    if (json) terminal.printJson({ daysKept, dryRun, days: reports });
    else terminal.print(reports.length === 0 ? 'no day is that old' : plainTable(reports.map(lineOf), HEAD));
  } finally {
    await Promise.all([db.end(), deadLetters.end()]);
  }
}

const HEAD = ['day', 'rows', 'outcome', 'why'];

function lineOf({ day, rows, outcome, hold }: DayReport): string[] {
  const why = hold === null ? '' : `${hold.reason}: ${hold.detail}`;
  return [day, rows === null ? '?' : String(rows), outcome, why];
}
