/** `./ferry audit`: who did what and why, and whether what is written there is what was written. Exit code 1 if it is not. */
import { type ChainReport, verifyChain } from '../audit/verify.ts';
import type { DatabaseName } from '../config/databases.ts';
import { FerryError } from '../kernel/errors.ts';
import { type AuditFacts, listAudit } from '../ops/audit-log.ts';
import { createPool, type Pool } from '../postgres/connection.ts';
import { EXIT } from './exit-codes.ts';
import { type CommonOptions, requireDatabase, type Session, sessionConfig } from './session.ts';
import { green, oneLine, plainTable, red } from './terminal.ts';

export interface AuditOptions extends CommonOptions {
  readonly principal?: string;
  readonly action?: string;
  readonly subject?: string;
  readonly event?: string;
  readonly after?: string;
  readonly before?: string;
  readonly limit: number;
  readonly head?: string;
  /** Each has an audit of its own. */
  readonly database: DatabaseName;
}

/** Throws INVALID_REQUEST naming an option that is no hash or no UUID. */
export async function runAudit(session: Session, options: AuditOptions, [action]: readonly string[]): Promise<number> {
  const config = requireDatabase(sessionConfig(session), options.database);
  checked(options, 'head', /^[0-9a-f]{64}$/, 'the 64 hexadecimal digits that `./ferry audit verify` printed');
  checked(options, 'event', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'the id of an event, a UUID');
  const pool = createPool(config, 'ferry audit', { max: 1 });
  try {
    if (action === 'verify') return await verify(session, pool, options.head);
    await list(session, pool, options);
    return EXIT.fine;
  } finally {
    await pool.end();
  }
}

function checked(options: AuditOptions, name: 'head' | 'event', pattern: RegExp, meaning: string): void {
  const value = options[name];
  if (value === undefined || pattern.test(value)) return;
  throw new FerryError('INVALID_REQUEST', `--${name} takes ${meaning}`);
}

async function verify({ json, terminal }: Session, pool: Pool, noted: string | undefined): Promise<number> {
  const report = await terminal.step('walking the chain', async (update) => {
    const onProgress = (position: bigint) => update(`walking the chain: ${position} links`);
    return verifyChain(pool, { onProgress, ...(noted === undefined ? {} : { notedHead: Buffer.from(noted, 'hex') }) });
  });
  if (json) terminal.printJson({ ...report, head: shownHead(report), ok: report.broken === null });
  else terminal.print(verdict(report, noted));
  return report.broken === null ? EXIT.fine : EXIT.failedCheck;
}

function shownHead({ head }: ChainReport) {
  return { position: Number(head.position), hash: head.hash.toString('hex') };
}

function verdict(report: ChainReport, noted: string | undefined): string {
  const { broken, unlinked } = report;
  const { position, hash } = shownHead(report);
  const waiting = unlinked === 0 ? '' : `, ${unlinked} ${unlinked === 1 ? 'row waits' : 'rows wait'} for the sealer`;
  if (broken !== null) {
    return [
      `${red('✖')} ${broken.kind}: ${broken.what}`,
      `  sound up to position ${position}, hash ${hash}${waiting}`,
      '  docs/OPERATIONS.md#the-audit-does-not-verify says what to do',
    ].join('\n');
  }
  return [
    `${green('✔')} ${position} links, each follows from the one before${noted === undefined ? '' : ', the noted head among them'}${waiting}`,
    `  head: position ${position}, hash ${hash}`,
    '  Keep it elsewhere: `./ferry audit verify --head <hash>` shows later that nothing up to it was cut off or made anew.',
  ].join('\n');
}

const HEAD = ['id', 'at', 'who', 'action', 'subject', 'event', 'link', 'reason'];

async function list({ json, terminal }: Session, pool: Pool, options: AuditOptions): Promise<void> {
  const { principal = null, action = null, subject = null, event = null, limit } = options;
  const { after = null, before = null } = options;
  const filter = { principal, action, subject, eventId: event, after, before, beforeId: null, limit: limit + 1 };
  const found = await listAudit(pool, filter);
  const rows = found.slice(0, limit);
  const more = found.length > limit;
  if (json) return terminal.printJson({ rows, more });
  terminal.print(rows.length === 0 ? 'no audit row is like that' : plainTable(rows.map(listRow), HEAD));
  if (more) terminal.note(`there are more: narrow them down, or raise --limit (${limit})`);
}

function listRow({ id, at, principal, action, subject, eventId, position, reason }: AuditFacts): string[] {
  const link = position === null ? 'not yet' : String(position);
  return [String(id), at, principal, action, subject, eventId ?? '', link, reason ?? ''].map(oneLine);
}
