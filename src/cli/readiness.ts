/** What the running service says of itself at `/readyz`. */
import { sleep } from '../kernel/deadline.ts';
import { isAtWork } from '../relay/states.ts';

const REQUEST_TIMEOUT_MS = 5_000;
const POLL_MS = 100;

/** The relay's own state; undefined if none runs in that process. Rejects if the service does not answer. */
export async function readRelayState(httpUrl: string | null): Promise<string | undefined> {
  if (httpUrl === null) throw new Error('no service runs in this home');
  const answer = await fetch(`${httpUrl}/readyz`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  const body = (await answer.json()) as { parts?: Record<string, { detail?: string }> };
  return body.parts?.relay?.detail?.split(':')[0]; // `state`, or `state: problem`
}

/** Waits until the relay is at work, for `timeoutMs` at most: a start that takes longer is for `./ferry status` to explain. */
export async function untilRelayAtWork(httpUrl: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline && !signal.aborted) {
    const state = await readRelayState(httpUrl).catch(() => 'unknown');
    if (state === undefined || isAtWork(state)) return;
    await sleep(POLL_MS, signal);
  }
}
