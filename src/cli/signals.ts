/** SIGINT and SIGTERM: the first asks for a clean stop, the second ends at once. */
export interface StopSignal {
  /** Resolves with the signal that asked for the stop. */
  readonly requested: Promise<NodeJS.Signals>;
  readonly signal: AbortSignal;
  /** Gives the signals back to Node's defaults. */
  release(): void;
}

/** Exit code of a process that a signal ended, as shells count it. */
const FORCED_EXIT_CODE = 130;

export function onStopSignal(forced: () => void = () => {}): StopSignal {
  const controller = new AbortController();
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  const listener = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      forced();
      process.exit(FORCED_EXIT_CODE);
    }
    controller.abort();
    resolve(name);
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return {
    requested: promise,
    signal: controller.signal,
    release: () => {
      process.off('SIGINT', listener);
      process.off('SIGTERM', listener);
    },
  };
}
