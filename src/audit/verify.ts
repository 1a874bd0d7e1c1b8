/** Walks the audit's chain in the database and says where it is broken. Reads only, page by page, while it goes on growing. */
import type { Queryable } from '../postgres/connection.ts';
import { type AuditLink, type AuditRow, type ChainBreak, type ChainHead, firstBreak, NO_LINKS } from './chain.ts';

export interface ChainReport {
  /** The first break; null: what is linked is what was linked. */
  readonly broken: ChainBreak | null;
  /** The last link that was looked at. Kept elsewhere it proves later that nothing up to it was changed or cut off. */
  readonly head: ChainHead;
  /** Rows that are committed and wait for the sealer. */
  readonly unlinked: number;
}

export interface VerifyOptions {
  /** Hash of a link that was noted earlier: it must be in the chain. */
  readonly notedHead?: Buffer;
  readonly onProgress?: (position: bigint) => void;
  /** Links a page; default 5,000. Moved rows are recognised as such within one page. */
  readonly pageSize?: number;
}

/** A row is in the queue for seconds; one that was committed before we looked and is in neither place was slipped in. */
export async function verifyChain(db: Queryable, options: VerifyOptions = {}): Promise<ChainReport> {
  const { notedHead, onProgress, pageSize = 5_000 } = options;
  let head = NO_LINKS;
  let noted = notedHead === undefined;
  let broken: ChainBreak | null = null;
  for (;;) {
    const links = await readLinks(db, head.position, pageSize);
    broken = firstBreak(head, links);
    const sound = broken === null ? links : links.filter(({ position }) => position < (broken?.position ?? 0n));
    if (notedHead !== undefined) noted ||= sound.some(({ hash }) => hash.equals(notedHead));
    head = sound.at(-1) ?? head;
    if (broken !== null || links.length < pageSize) break;
    onProgress?.(head.position);
  }
  broken ??= noted ? null : cutOff(head);
  broken ??= await findStray(db);
  return { broken, head: { position: head.position, hash: head.hash }, unlinked: await countUnlinked(db) };
}

function cutOff({ position }: ChainHead): ChainBreak {
  const what = `the noted head is not in the chain, whose last position is ${position}: its end was cut off, or it was made anew`;
  return { kind: 'cut-off', position: null, auditId: null, what };
}

interface LinkRecord extends Omit<AuditRow, 'id'> {
  readonly position: bigint;
  readonly auditId: string;
  readonly linkedAt: string;
  readonly hash: Buffer;
  readonly id: string | null;
}

const MICROSECONDS = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint::text`;

async function readLinks(db: Queryable, after: bigint, limit: number): Promise<AuditLink[]> {
  const { rows } = await db.query<LinkRecord>(
    `select link.position, link.audit_id::text as "auditId", ${MICROSECONDS('link.linked_at')} as "linkedAt", link.hash,
            audit.id::text, ${MICROSECONDS('audit.at')} as at, principal, action, subject, event_id as "eventId",
            request_id as "requestId", reason
     from ferry.audit_link link left join ferry.audit on audit.id = link.audit_id
     where link.position > $1 order by link.position limit $2`,
    [String(after), limit],
  );
  return rows.map(({ position, auditId, linkedAt, hash, id, ...row }) => ({
    ...{ position, auditId, linkedAt, hash },
    row: id === null ? null : { id, ...row },
  }));
}

/** A row outside chain and queue, or a queued row that is gone; the one with the smallest id. */
async function findStray(db: Queryable): Promise<ChainBreak | null> {
  const { rows } = await db.query<{ id: string; kind: 'inserted' | 'missing' }>(
    `(select audit.id::text, 'inserted' as kind, audit.id as place from ferry.audit
      where not exists (select from ferry.audit_link where audit_id = audit.id)
        and not exists (select from ferry.audit_unlinked where audit_id = audit.id) order by audit.id limit 1)
     union all
     (select queued.audit_id::text, 'missing', queued.audit_id from ferry.audit_unlinked queued
      where not exists (select from ferry.audit where id = queued.audit_id) order by queued.audit_id limit 1)
     order by place limit 1`,
  );
  const [stray] = rows;
  if (stray === undefined) return null;
  const { id, kind } = stray;
  const what =
    kind === 'inserted'
      ? `the row ${id} is neither in the chain nor on its way there: it was written past ferry.audit's triggers`
      : `the row ${id} is gone; it was written and not yet in the chain`;
  return { kind, position: null, auditId: id, what };
}

async function countUnlinked(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>('select count(*)::int as count from ferry.audit_unlinked');
  return rows[0]?.count ?? 0;
}
