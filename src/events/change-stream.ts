/**
 * The port between the WAL and the relay: committed changes in commit order, each transaction as begin, its changes, commit. The
 * implementation is `wal/`; the relay only knows this.
 */
import type { Lsn } from '../kernel/lsn.ts';
import type { EncodeRefusal } from './encoder.ts';
import type { OutboxEvent } from './outbox-event.ts';

export type IgnoredKind = 'insert' | 'update' | 'delete' | 'truncate' | 'message' | 'other';

export type Change =
  | { readonly kind: 'begin'; readonly commitLsn: Lsn; readonly xid: number; readonly commitTimeMs: number }
  /** An outbox row. `bytes` is its size in the WAL message. */
  | { readonly kind: 'event'; readonly event: OutboxEvent; readonly bytes: number }
  /** An outbox row that is no event: a dead letter. `original` is the row as received. */
  | {
      readonly kind: 'malformed';
      readonly id: string;
      readonly aggregateType: string;
      readonly aggregateId: string;
      readonly refusal: EncodeRefusal;
      readonly original: Buffer;
    }
  /** A transactional logical message (pg_logical_emit_message); anybody may emit one. */
  | { readonly kind: 'message'; readonly prefix: string; readonly content: Buffer }
  /** Counted and otherwise ignored: TRUNCATE, a table that is not the outbox, an unknown message. */
  | { readonly kind: 'ignored'; readonly what: string; readonly as: IgnoredKind; readonly countsInSeq: boolean }
  | { readonly kind: 'commit'; readonly commitLsn: Lsn; readonly endLsn: Lsn; readonly commitTimeMs: number };

/** Called synchronously, in order, on the socket's callback: these must not block and must not throw. */
export interface ChangeSink {
  onChange(change: Change): void;
  /** Everything committed below `lsn` has been delivered, except what is still between begin and commit. */
  onKeepalive(lsn: Lsn, replyRequested: boolean): void;
}

/** What IDENTIFY_SYSTEM and TIMELINE_HISTORY say of the server. */
export interface ServerIdentity {
  readonly systemId: string;
  readonly timeline: number;
  readonly database: string;
  /** End of WAL when the connection was made. */
  readonly serverLsn: Lsn;
  /** For each earlier timeline of the server's history, where it was left. */
  readonly switchPoints: ReadonlyMap<number, Lsn>;
}

export interface ChangeStream {
  readonly identity: ServerIdentity;
  /** Backend pid of the walsender, to prove that the slot is ours. */
  readonly processId: number;
  /** Settles when the stream ended by itself, with what ended it; never rejects. */
  readonly ended: Promise<Error>;
  /** Bytes read from the socket so far: the sign of life, keepalives included. */
  readonly bytesReceived: number;
  /** Begins to hand out changes; until then the socket is paused. Called once. */
  start(sink: ChangeSink): void;
  pause(): void;
  resume(): void;
  /** Tells the server that everything up to `lsn` may be forgotten; can be repeated. */
  confirm(lsn: Lsn, options?: { requestReply?: boolean }): void;
  /** Safe to call twice; the slot is free when it resolves. */
  stop(): Promise<void>;
}

/**
 * Takes the slot and starts streaming from its confirmed position, paused until `start`. Rejects with SlotBusyError or SlotMissingError
 * where that is why.
 */
export type OpenChangeStream = () => Promise<ChangeStream>;

/** Another connection streams from the slot. */
export class SlotBusyError extends Error {
  override readonly name = 'SlotBusyError';
}

/** There is no such slot, or the server has invalidated it. */
export class SlotMissingError extends Error {
  override readonly name = 'SlotMissingError';
}
