/** The embedded payment provider: the service of payment-provider-server.ts as a child process, on the same port and books at each start. */
import { join } from 'node:path';
import type { Home } from './home.ts';
import type { PartRecipe } from './part.ts';

export function paymentProviderUrl(port: number): string {
  return `http://127.0.0.1:${port}`;
}

/** Its books are a file of the home, so that it may be killed and started again like every other part. */
export function paymentProviderRecipe(home: Home, port: number): PartRecipe {
  return {
    name: 'payment-provider',
    port,
    prepare: async () => {},
    command: () => ({
      home,
      command: process.execPath,
      args: [
        join(import.meta.dirname, 'payment-provider-server.ts'),
        ...['--port', String(port), '--state', home.path('charges.jsonl')],
      ],
      onMessage: () => {}, // it says nothing, but notices by the channel that this process is gone
    }),
    probe: async () => {
      const answer = await fetch(`${paymentProviderUrl(port)}/charges/none`, { signal: AbortSignal.timeout(2_000) });
      await answer.body?.cancel();
    },
    readyTimeoutMs: 15_000,
    startAttempts: 3,
    stopSignals: [['SIGTERM', 2_000]],
  };
}
