/** The service as commands see it; `src/app/` makes it and `src/main.ts` passes it in, because cli/ stands below app/. */
import type { Config } from '../config/variables.ts';

export interface RunningService {
  /** Undefined when none of its roles listens. */
  readonly httpUrl: string | undefined;
  /** Settles when the service can no longer go on by itself; rejects with the reason. */
  readonly finished: Promise<void>;
  /** Finishes what is in flight and releases everything; safe to call twice. */
  stop(): Promise<void>;
}

/** Starts the roles of FERRY_ROLES; resolves when they are up. */
export type StartService = (config: Config) => Promise<RunningService>;

/** What a role process tells the process that started it. */
export interface ReadyMessage {
  readonly kind: 'ready';
  readonly httpUrl: string | null;
}

export function isReadyMessage(message: unknown): message is ReadyMessage {
  return typeof message === 'object' && message !== null && (message as { kind?: unknown }).kind === 'ready';
}
