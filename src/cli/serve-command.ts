/** `./ferry serve`: runs roles in this process until a signal; what the image runs, and what `up` and `demo` start. */
import { withDeadline } from '../kernel/deadline.ts';
import type { ReadyMessage, StartService } from './service.ts';
import { type CommonOptions, type Session, sessionConfig } from './session.ts';
import { onStopSignal } from './signals.ts';

export interface ServeOptions extends CommonOptions {
  /** Instead of FERRY_ROLES. */
  readonly roles?: string;
}

export async function runServe(session: Session, { roles }: ServeOptions, startService: StartService): Promise<void> {
  const environment = roles === undefined ? session.environment : { ...session.environment, FERRY_ROLES: roles };
  const config = sessionConfig({ ...session, environment });
  const stop = onStopSignal();
  // A parent that died cannot stop its roles: they notice the closed channel and stop by themselves.
  const orphaned = new Promise<void>((resolve) => process.once('disconnect', resolve));
  const service = await startService(config);
  const ready: ReadyMessage = { kind: 'ready', httpUrl: service.httpUrl ?? null };
  process.send?.(ready);
  try {
    await Promise.race([stop.requested, orphaned, service.finished]);
  } finally {
    await withDeadline('the graceful stop', config.SHUTDOWN_TIMEOUT_MS, service.stop());
    stop.release();
    if (process.connected) process.disconnect();
  }
}
