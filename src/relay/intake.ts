/**
 * Takes changes off the replication stream: counts positions, drops what the checkpoint already covers, and queues the rest within a
 * bound; beyond it the socket is paused, so that a slow Kafka costs WAL on the server and no memory here.
 */
import type { Change, ChangeSink, IgnoredKind } from '../events/change-stream.ts';
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import { FerryError } from '../kernel/errors.ts';
import { formatLsn, type Lsn } from '../kernel/lsn.ts';
import type { TransactionEnd } from './batch.ts';
import type { Checkpoint, Partial } from './checkpoint.ts';
import type { ControlGate, ControlMessage } from './control-gate.ts';
import type { MalformedRow } from './record-factory.ts';

export type Item =
  | { readonly kind: 'begin'; readonly commitLsn: Lsn; readonly xid: number; readonly commitTimeMs: number }
  | { readonly kind: 'event'; readonly event: OutboxEvent; readonly position: Position; readonly bytes: number }
  | { readonly kind: 'malformed'; readonly row: MalformedRow; readonly position: Position; readonly bytes: number }
  | (ControlMessage & { readonly kind: 'control'; readonly bytes: number })
  | ({ readonly kind: 'end'; readonly receivedAtMs: number } & TransactionEnd);

export interface IntakeOptions {
  readonly maxBytes: number;
  /** Prefix of our own heartbeats. */
  readonly heartbeatPrefix: string;
  readonly controls: Pick<ControlGate, 'open'>;
  readonly pause: () => void;
  readonly resume: () => void;
  /** An outbox row arrived, whether or not it is new. */
  readonly onEvent: () => void;
  /** Something was queued. */
  readonly onItem: () => void;
  readonly onKeepalive: (lsn: Lsn, replyRequested: boolean) => void;
  readonly onIgnored: (what: string, as: IgnoredKind) => void;
  /** The stream contradicts the checkpoint: going on would lose or repeat. */
  readonly onRefusal: (error: FerryError) => void;
}

/** What an item costs besides its event: else small transactions without events would queue without bound. */
const ITEM_BYTES = 128;

/** A heartbeat's nonce is a UUID; anybody may emit messages under our prefix, so longer ones are not even kept. */
const NONCE_BYTES = 36;

interface OpenTransaction {
  readonly commitLsn: Lsn;
  /** Already published as a whole. */
  readonly drop: boolean;
  /** This many changes are already published. */
  readonly skip: number;
  seq: number;
  readonly heartbeats: string[];
}

export class Intake implements ChangeSink {
  readonly #options: IntakeOptions;
  readonly #endLsn: Lsn;
  #partial: Partial | null;
  #open: OpenTransaction | null = null;
  #items: Item[] = [];
  #head = 0;
  #bytes = 0;
  #paused = false;
  #refused = false;

  constructor(checkpoint: Pick<Checkpoint, 'endLsn' | 'partial'>, options: IntakeOptions) {
    this.#endLsn = checkpoint.endLsn;
    this.#partial = checkpoint.partial;
    this.#options = options;
  }

  /** Nothing queued. */
  get empty(): boolean {
    return this.#head === this.#items.length;
  }

  /** Nothing queued and no transaction half received. */
  get idle(): boolean {
    return this.empty && this.#open === null;
  }

  get fillRatio(): number {
    return this.#bytes / this.#options.maxBytes;
  }

  /** Commit time of the transaction that has been queued longest; null when nothing is queued. */
  get oldestCommitTimeMs(): number | null {
    for (let i = this.#head; i < this.#items.length; i++) {
      const item = this.#items[i];
      if (item?.kind === 'begin' || item?.kind === 'end') return item.commitTimeMs;
    }
    return null;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** The oldest item, or undefined when there is none. */
  shift(): Item | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#head += 1;
    if (this.#head === this.#items.length || this.#head > 4096) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    this.#bytes -= sizeOf(item);
    if (this.#paused && this.#bytes < this.#options.maxBytes / 2) {
      this.#paused = false;
      this.#options.resume();
    }
    return item;
  }

  onKeepalive(lsn: Lsn, replyRequested: boolean): void {
    if (!this.#refused) this.#options.onKeepalive(lsn, replyRequested);
  }

  onChange(change: Change): void {
    if (this.#refused) return; // the session is ending: nothing behind the hole may still be published
    switch (change.kind) {
      case 'begin':
        this.#begin(change);
        break;
      case 'event': {
        this.#options.onEvent();
        const position = this.#next();
        if (position !== null) this.#push({ kind: 'event', event: change.event, position, bytes: change.bytes });
        break;
      }
      case 'malformed': {
        const position = this.#next();
        const { kind: _, ...row } = change;
        if (position !== null) this.#push({ kind: 'malformed', row, position, bytes: row.original.length });
        break;
      }
      case 'message':
        this.#message(change);
        break;
      case 'ignored':
        if (change.countsInSeq) this.#next();
        this.#options.onIgnored(change.what, change.as);
        break;
      case 'commit':
        this.#commit(change);
        break;
    }
  }

  #begin({ commitLsn, xid, commitTimeMs }: Change & { kind: 'begin' }): void {
    // A commit record that starts before the checkpoint's end ends at or before it: records do not overlap.
    const drop = commitLsn < this.#endLsn;
    let skip = 0;
    if (!drop && this.#partial !== null) {
      if (commitLsn !== this.#partial.commitLsn || xid !== this.#partial.xid) {
        this.#refusePartial(commitLsn, this.#partial);
        return;
      }
      skip = this.#partial.seq;
      this.#partial = null;
    }
    this.#open = { commitLsn, drop, skip, seq: 0, heartbeats: [] };
    if (!drop) this.#push({ kind: 'begin', commitLsn, xid, commitTimeMs });
  }

  #message({ prefix, content }: Change & { kind: 'message' }): void {
    const position = this.#next();
    if (position === null) return;
    if (prefix === this.#options.heartbeatPrefix) {
      this.#heartbeat(content);
      return;
    }
    const message = this.#options.controls.open(prefix, content);
    if (message === null) this.#options.onIgnored('message of somebody else, or forged', 'message');
    else {
      const receivedAtMs = performance.now();
      this.#push({ kind: 'control', ...message, position, receivedAtMs, bytes: content.length });
    }
  }

  /** Ours are alone in their transaction. */
  #heartbeat(content: Buffer): void {
    const heartbeats = this.#open?.heartbeats;
    if (content.length === NONCE_BYTES && heartbeats?.length === 0) heartbeats.push(content.toString());
  }

  #refusePartial(commitLsn: Lsn, partial: Partial): void {
    this.#refused = true;
    const message =
      `a part of the transaction at ${formatLsn(partial.commitLsn)} (xid ${partial.xid}) was published, ` +
      `but the slot goes on with ${formatLsn(commitLsn)}: the rest of it cannot be read`;
    this.#options.onRefusal(
      new FerryError('RELAY_HISTORY_DIVERGED', message, { details: { lsn: formatLsn(partial.commitLsn) } }),
    );
  }

  /** Position of the next change of the open transaction, or null if it is already published. */
  #next(): Position | null {
    const open = this.#open;
    if (open === null) throw new Error('a change came outside of a transaction');
    open.seq += 1;
    return open.drop || open.seq <= open.skip ? null : { commitLsn: open.commitLsn, seq: open.seq };
  }

  #commit(change: Change & { kind: 'commit' }): void {
    const open = this.#open;
    if (open === null) throw new Error('a commit came outside of a transaction');
    this.#open = null;
    const { endLsn, commitTimeMs } = change;
    if (!open.drop)
      this.#push({ kind: 'end', receivedAtMs: Date.now(), endLsn, commitTimeMs, heartbeats: open.heartbeats });
  }

  #push(item: Item): void {
    this.#items.push(item);
    this.#bytes += sizeOf(item);
    if (!this.#paused && this.#bytes > this.#options.maxBytes) {
      this.#paused = true;
      this.#options.pause();
    }
    this.#options.onItem();
  }
}

function sizeOf(item: Item): number {
  return 'bytes' in item ? ITEM_BYTES + item.bytes : ITEM_BYTES;
}
