/** What the running service says of itself at `/readyz`. */
import type { DatabaseName } from '../config/databases.ts';
import { sleep } from '../kernel/deadline.ts';
import { relayPart } from '../ops/roles.ts';
import { isAtWork } from '../relay/states.ts';

const REQUEST_TIMEOUT_MS = 5_000;
const POLL_MS = 100;

/** What a relay says of itself: its state; undefined if none of that database runs in the process. */
export type RelayStates = (database: DatabaseName) => string | undefined;

/** Rejects if the service does not answer. */
export async function readRelayStates(httpUrl: string | null): Promise<RelayStates> {
  if (httpUrl === null) throw new Error('no service runs in this home');
  const answer = await fetch(`${httpUrl}/readyz`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  const body = (await answer.json()) as { parts?: Record<string, { detail?: string }> };
  return (database) => body.parts?.[relayPart(database)]?.detail?.split(':')[0]; // `state`, or `state: problem`
}

/** Waits until the databases' relays are at work, for `timeoutMs` at most: a start that takes longer is for `./ferry status` to explain. */
export async function untilRelaysAtWork(
  httpUrl: string,
  databases: readonly DatabaseName[],
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline && !signal.aborted) {
    const states = await readRelayStates(httpUrl).catch(() => () => 'unknown');
    if (databases.map(states).every((state) => state === undefined || isAtWork(state))) return;
    await sleep(POLL_MS, signal);
  }
}
