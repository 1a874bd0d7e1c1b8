/** Kills processes with SIGKILL while events flow, and measures how soon the relay publishes again. */
import { performance } from 'node:perf_hooks';
import { sleep } from '../../kernel/deadline.ts';
import type { SlotState } from '../relay-status.ts';
import type { RoleProcess } from '../role-process.ts';

export interface RelayKill {
  /** WAL that the relay had not yet confirmed at the moment of the kill, in bytes. */
  readonly unconfirmedBytes: number;
  /** From SIGKILL until the restarted process has confirmed more to Postgres, start of the process included. */
  readonly backAfterMs: number;
}

export interface KillerOptions {
  readonly relay: RoleProcess;
  readonly kills: number;
  /** How much of the traffic is done, 0 to 1. */
  readonly progress: () => number;
  readonly slot: () => Promise<Pick<SlotState, 'state' | 'lagBytes' | 'confirmedLsn'>>;
  readonly signal: AbortSignal;
  readonly onKill: (done: number) => void;
}

const POLL_MS = 25;

/** Spreads the kills over the traffic; each waits until the relay confirms again, so that every one hits it at work. */
export async function killRelay(options: KillerOptions): Promise<RelayKill[]> {
  const { relay, kills, signal } = options;
  const done: RelayKill[] = [];
  let { confirmedLsn } = await options.slot();
  while (done.length < kills && !signal.aborted) {
    const due = (done.length + 1) / (kills + 1);
    while (options.progress() < due && !signal.aborted) await sleep(POLL_MS, signal);
    await waitUntilConfirming(options, confirmedLsn);
    if (signal.aborted) break;
    const before = await options.slot();
    const killedAt = performance.now();
    await relay.crash();
    await waitUntilConfirming(options, before.confirmedLsn);
    done.push({ unconfirmedBytes: before.lagBytes ?? 0, backAfterMs: performance.now() - killedAt });
    options.onKill(done.length);
    confirmedLsn = before.confirmedLsn;
  }
  return done;
}

/** A relay confirms an LSN only once everything before it is in Kafka. */
async function waitUntilConfirming({ slot, signal }: KillerOptions, confirmedBefore: string | null): Promise<void> {
  while (!signal.aborted) {
    const { state, confirmedLsn } = await slot();
    if (state === 'streaming' && confirmedLsn !== confirmedBefore) return;
    await sleep(POLL_MS, signal);
  }
}

/** What can be killed besides the relay: a role's process, or an outside system. */
export interface Victim {
  readonly name: string;
  crash(): Promise<void>;
}

export interface OtherKillsOptions extends Pick<KillerOptions, 'progress' | 'signal'> {
  readonly victims: readonly Victim[];
  /** Kills of each. */
  readonly kills: number;
  readonly onKill: (name: string) => void;
}

/** Kills the victims in turn, spread over the traffic; each is started again by whoever watches over it. */
export async function killOthers({ victims, kills, progress, signal, onKill }: OtherKillsOptions): Promise<void> {
  const turns = Array.from({ length: kills }, () => victims).flat();
  for (const [done, victim] of turns.entries()) {
    while (progress() < (done + 0.5) / turns.length && !signal.aborted) await sleep(POLL_MS, signal);
    if (signal.aborted) return;
    await victim.crash();
    onKill(victim.name);
  }
}
