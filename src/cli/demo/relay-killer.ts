/** Kills the relay with SIGKILL while events flow, and measures how soon it publishes again. */
import { performance } from 'node:perf_hooks';
import { sleep } from '../../kernel/deadline.ts';
import type { RoleProcess } from '../role-process.ts';

export interface RelayKill {
  /** Committed and not yet known to be published at the moment of the kill. */
  readonly pending: number;
  /** From SIGKILL until the slot is read again by the restarted process. */
  readonly backAfterMs: number;
}

export interface KillerOptions {
  readonly relay: RoleProcess;
  readonly kills: number;
  /** How much of the traffic is done, 0 to 1. */
  readonly progress: () => number;
  readonly countPending: () => Promise<number>;
  /** Whether the relay reads its slot. */
  readonly isStreaming: () => Promise<boolean>;
  readonly signal: AbortSignal;
  readonly onKill: (done: number, kill: RelayKill) => void;
}

const POLL_MS = 25;

/** Spreads the kills over the traffic; each waits until the relay is streaming again, so that every one hits it at work. */
export async function killRelay(options: KillerOptions): Promise<RelayKill[]> {
  const { relay, kills, signal } = options;
  const done: RelayKill[] = [];
  while (done.length < kills && !signal.aborted) {
    const due = (done.length + 1) / (kills + 1);
    while (options.progress() < due && !signal.aborted) await sleep(POLL_MS, signal);
    await waitUntilStreaming(options);
    if (signal.aborted) break;
    const pending = await options.countPending();
    const killedAt = performance.now();
    await relay.crash();
    await waitUntilStreaming(options);
    done.push({ pending, backAfterMs: performance.now() - killedAt });
    options.onKill(done.length, done.at(-1) ?? { pending, backAfterMs: 0 });
  }
  return done;
}

async function waitUntilStreaming({ isStreaming, signal }: KillerOptions): Promise<void> {
  while (!signal.aborted && !(await isStreaming())) await sleep(POLL_MS, signal);
}
