/**
 * A logical message every few seconds: it moves checkpoint and slot while the outbox is quiet, so that other tables' WAL does not pile up
 * behind it, and it tells which transactions are published (ferry.outbox_status). It needs no table.
 */
import { randomUUID } from 'node:crypto';
import type { Lsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { RelayRun } from './checkpoint.ts';
import { emitHeartbeat, recordProgress } from './ledger.ts';

/** Heartbeats under way at once: more mean that the relay is behind, and another would tell nothing new. */
const MAX_PENDING = 8;

/** Between two heartbeats that were asked for. Anybody may ask, as often as they like: one costs a commit and a Kafka transaction. */
const REQUEST_INTERVAL_MS = 50;

export class Heartbeat {
  readonly #control: Queryable;
  readonly #own: RelayRun;
  /**
   * Heartbeats not yet published, with the snapshot that each stands for. A promise, because a heartbeat can be back before its answer:
   * a server with a synchronous standby sends the WAL at once and the answer only when the standby has it.
   */
  readonly #pending = new Map<string, Promise<string>>();

  constructor(control: Queryable, own: RelayRun) {
    this.#control = control;
    this.#own = own;
  }

  static prefix(relay: string): string {
    return `ferry:${relay}:heartbeat`;
  }

  async beat(): Promise<void> {
    if (this.#pending.size >= MAX_PENDING) return;
    const nonce = randomUUID();
    const snapshot = emitHeartbeat(this.#control, Heartbeat.prefix(this.#own.relay), nonce);
    this.#pending.set(nonce, snapshot);
    await snapshot;
  }

  /** Heartbeats that were published. One that this session did not emit is somebody else's and says nothing. */
  async published(nonces: readonly string[], lsn: Lsn): Promise<void> {
    let newest: Promise<string> | undefined;
    for (const nonce of nonces) {
      newest = this.#pending.get(nonce) ?? newest;
      this.#pending.delete(nonce);
    }
    if (newest !== undefined) await recordProgress(this.#control, this.#own, await newest, lsn);
  }
}

/**
 * Heartbeats for those who wait for what is committed to be published, and not until the next regular one. A request that comes too soon is
 * served when its time has come, and never by the heartbeat before it: what its sender waits for may be newer than that.
 */
export class RequestedHeartbeats {
  readonly #beat: () => void;
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  constructor(beat: () => void) {
    this.#beat = beat;
  }

  request(): void {
    if (this.#timer !== null) return;
    const waitMs = Math.max(0, this.#lastAtMs + REQUEST_INTERVAL_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#lastAtMs = performance.now();
      this.#beat();
    }, waitMs);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
