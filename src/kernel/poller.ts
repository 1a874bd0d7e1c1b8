/** Work that is looked for again and again until it is stopped: with a pause where there was none, and a growing one after failures. */
import { backoffMs, sleep } from './deadline.ts';
import { coerceError } from './errors.ts';

export interface PollerOptions {
  /** Does what there is to do, in bounded pieces; resolves with the pause before the next turn, 0 where there is more. */
  readonly turn: (signal: AbortSignal) => Promise<number>;
  /** Hears of each failure; the turn is tried again. */
  readonly onError: (error: Error) => void;
}

const FAILURE_BACKOFF = { baseMs: 500, maxMs: 30_000 };

export class Poller {
  readonly #options: PollerOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;

  constructor(options: PollerOptions) {
    this.#options = options;
  }

  /** Begins; does nothing the second time. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the turn that runs is done. Safe before `start` and twice. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { turn, onError } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const pauseMs = await turn(signal);
        failures = 0;
        if (pauseMs > 0) await sleep(pauseMs, signal);
      } catch (error) {
        onError(coerceError(error));
        await sleep(backoffMs(failures++, FAILURE_BACKOFF.baseMs, FAILURE_BACKOFF.maxMs), signal);
      }
    }
  }
}
