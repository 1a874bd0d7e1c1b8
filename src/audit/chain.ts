/**
 * The chain over the audit's rows: what a link's hash is made of, and where a chain is broken. Postgres makes the hashes
 * (migrations/ferry/0155_audit_chain.sql); here they are made a second time, from the same bytes and by other code, so that whoever changes
 * rows and the database's functions with them is found all the same. Pure.
 */
import { createHash } from 'node:crypto';

/** A row of ferry.audit, each column as text; times in microseconds since 1970. */
export interface AuditRow {
  readonly id: string;
  readonly at: string;
  readonly principal: string;
  readonly action: string;
  readonly subject: string;
  readonly eventId: string | null;
  readonly requestId: string | null;
  readonly reason: string | null;
}

/** A link with its row; null: the row is gone. */
export interface AuditLink {
  readonly position: bigint;
  readonly auditId: string;
  readonly linkedAt: string;
  readonly hash: Buffer;
  readonly row: AuditRow | null;
}

export interface ChainHead {
  /** 0: nothing is linked. */
  readonly position: bigint;
  readonly hash: Buffer;
}

/**
 * `changed`: a row or its link is not what it was; `missing`: it is gone; `inserted`: a row that never was in the chain; `reordered`: what
 * belongs here stands elsewhere; `cut-off`: the end that was noted elsewhere is not in the chain.
 */
export type BreakKind = 'changed' | 'missing' | 'inserted' | 'reordered' | 'cut-off';

export interface ChainBreak {
  readonly kind: BreakKind;
  /** Null where the break has no place in the chain. */
  readonly position: bigint | null;
  /** Id in ferry.audit, where it is known. */
  readonly auditId: string | null;
  /** In words. */
  readonly what: string;
}

export const NO_LINKS: ChainHead = { position: 0n, hash: Buffer.alloc(32) };

/** SHA-256 as ferry.audit_hash makes it: the hash before, then each field with its length in bytes (int32, big-endian; -1 for null). */
export function linkHash(previous: Buffer, position: bigint, linkedAt: string, row: AuditRow): Buffer {
  const { id, at, principal, action, subject, eventId, requestId, reason } = row;
  const hash = createHash('sha256').update(previous);
  for (const field of [
    ...[String(position), linkedAt, id, at],
    ...[principal, action, subject, eventId, requestId, reason],
  ]) {
    const content = Buffer.from(field ?? '', 'utf8');
    const length = Buffer.alloc(4);
    length.writeInt32BE(field === null ? -1 : content.length);
    hash.update(length).update(content);
  }
  return hash.digest();
}

/** The first of `links`, which are in order of position, that does not follow from `before`; null: all do. */
export function firstBreak(before: ChainHead, links: readonly AuditLink[]): ChainBreak | null {
  let previous = before;
  for (const link of links) {
    const found = breakAt(previous, link, links);
    if (found !== null) return found;
    previous = link;
  }
  return null;
}

function breakAt(previous: ChainHead, link: AuditLink, neighbours: readonly AuditLink[]): ChainBreak | null {
  const { position, auditId, row } = link;
  const expected = previous.position + 1n;
  if (position !== expected) {
    const until = position - 1n;
    const span = until === expected ? `position ${expected} is` : `positions ${expected} to ${until} are`;
    return { kind: 'missing', position: expected, auditId: null, what: `${span} not in the chain any more` };
  }
  if (row === null) {
    const what = `the row ${auditId} at position ${position} is gone`;
    return { kind: 'missing', position, auditId, what };
  }
  if (linkHash(previous.hash, position, link.linkedAt, row).equals(link.hash)) return null;
  const moved = neighbours.find((other) => belongsHere(previous, link, other));
  if (moved === undefined) {
    const what = `the row ${auditId} at position ${position}, or its link, is not what it was`;
    return { kind: 'changed', position, auditId, what };
  }
  const what = `position ${position} has the row ${auditId}; the row ${moved.auditId} of position ${moved.position} belongs there`;
  return { kind: 'reordered', position, auditId, what };
}

/** Whether `other` is what was linked at the position of `link`: its row alone was moved, or the whole link was. */
function belongsHere(previous: ChainHead, { position, linkedAt, hash }: AuditLink, other: AuditLink): boolean {
  if (other.row === null || other.position === position) return false;
  return (
    linkHash(previous.hash, position, linkedAt, other.row).equals(hash) ||
    linkHash(previous.hash, position, other.linkedAt, other.row).equals(other.hash)
  );
}
