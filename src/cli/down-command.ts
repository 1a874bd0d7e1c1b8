/** `./ferry down`: ends the stack of a home, by the recorded process ids and start times. */
import type { Home } from '../embedded/home.ts';
import { endProcess } from '../embedded/process-identity.ts';
import type { Session } from './session.ts';

/** Registry, Kafka and Postgres need their time to stop cleanly; after it the rest is ended by force. */
const OWNER_GRACE_MS = 60_000;

export async function runDown(session: Session): Promise<void> {
  const { home, terminal } = session;
  const owner = home.owner();
  if (owner === undefined && !home.abandoned) {
    terminal.print(`nothing runs in ${home.directory}`);
    return;
  }
  await terminal.step(`stopping what runs in ${home.directory}`, () => endStack(home));
}

/** Asks the owner to stop, then clears whatever its record still names. */
export async function endStack(home: Home): Promise<void> {
  const owner = home.owner();
  if (owner !== undefined)
    await endProcess(owner, [
      ['SIGTERM', OWNER_GRACE_MS],
      ['SIGKILL', 5_000],
    ]);
  if (!home.abandoned) return;
  await home.claim(); // clears what the owner left
  home.release();
}
