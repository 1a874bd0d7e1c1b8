/** The wait between the last order and the count: until everything that was begun has come to its end. */
import type { Pool } from '../../postgres/connection.ts';
import type { Terminal } from '../terminal.ts';
import { type Outbox, waitForQuiet } from './proof.ts';
import { waitForSagas } from './saga-proof.ts';

const QUIET_TIMEOUT_MS = 60_000;
const SAGAS_TIMEOUT_MS = 240_000;

export interface SettleOptions {
  /** Accepted orders: each has a fulfilment. */
  readonly orders: number;
  readonly outboxes: readonly Outbox[];
  readonly signal: AbortSignal;
}

/**
 * Until every order has ended one way or the other, and all that was written is published; says so if that takes too long. `pool`: the orders'.
 * Rejects with the signal's reason: what is not at rest cannot be counted.
 */
export async function settle(
  terminal: Terminal,
  pool: Pool,
  { orders, outboxes, signal }: SettleOptions,
): Promise<void> {
  await terminal.step('every order completed or undone', async (update) => {
    const onProgress = (ended: number) => update(`${ended} of ${orders} orders completed or undone`);
    const options = { timeoutMs: SAGAS_TIMEOUT_MS, signal, onProgress };
    if (!(await waitForSagas(pool, orders, options))) terminal.note('  not all have ended; counting what is there');
  });
  await terminal.step('every committed row published', async () => {
    const waits = outboxes.map(({ pool, relay }) => waitForQuiet(pool, relay, QUIET_TIMEOUT_MS, signal));
    if ((await Promise.all(waits)).includes(false))
      terminal.note('  not all rows are known to be published; counting what is there');
  });
}
