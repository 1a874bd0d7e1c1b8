/**
 * A logical message every few seconds: it moves checkpoint and slot while the outbox is quiet, so that other tables' WAL does not pile up
 * behind it, and it tells which transactions are published (ferry.outbox_status). It needs no table.
 */
import { randomUUID } from 'node:crypto';
import type { Lsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import { emitHeartbeat, recordProgress } from './ledger.ts';

/** Heartbeats under way at once: more mean that the relay is behind, and another would tell nothing new. */
const MAX_PENDING = 8;

export class Heartbeat {
  readonly #control: Queryable;
  readonly #relay: string;
  /** Heartbeats emitted and not yet published, with the snapshot that each stands for. */
  readonly #pending = new Map<string, string>();

  constructor(control: Queryable, relay: string) {
    this.#control = control;
    this.#relay = relay;
  }

  static prefix(relay: string): string {
    return `ferry:${relay}:heartbeat`;
  }

  async beat(): Promise<void> {
    if (this.#pending.size >= MAX_PENDING) return;
    const nonce = randomUUID();
    this.#pending.set(nonce, ''); // known before it can come back
    const snapshot = await emitHeartbeat(this.#control, Heartbeat.prefix(this.#relay), nonce);
    // Published before the answer was here: setting it again would keep it pending for ever, and eight of those end the heartbeat.
    if (this.#pending.has(nonce)) this.#pending.set(nonce, snapshot);
  }

  /** Heartbeats that were published. One that this session did not emit is somebody else's and says nothing. */
  async published(nonces: readonly string[], lsn: Lsn): Promise<void> {
    let newest = '';
    for (const nonce of nonces) {
      newest = this.#pending.get(nonce) || newest;
      this.#pending.delete(nonce);
    }
    if (newest !== '') await recordProgress(this.#control, this.#relay, newest, lsn);
  }
}
