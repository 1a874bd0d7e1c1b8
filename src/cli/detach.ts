/** Leaves `up` running behind: a supervisor process of its own session, which `./ferry down` ends by its recorded identity. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { tailFrom } from '../embedded/child.ts';
import { FerryError } from '../kernel/errors.ts';
import { REPOSITORY, type Session } from './session.ts';

/** Resolves when the supervisor is up. Throws PART_UNREACHABLE with what it said if it ended instead. */
export async function detach(session: Session, flags: readonly string[]): Promise<void> {
  const { home, terminal, environment } = session;
  mkdirSync(home.path('logs'), { recursive: true });
  const logFile = home.path('logs', 'supervisor.log');
  const log = openSync(logFile, 'a', 0o600);
  const said = statSync(logFile).size;
  await terminal.step('starting the stack and the service', async () => {
    const supervisor = spawn(
      process.execPath,
      [`${REPOSITORY}/src/main.ts`, 'up', '--home', home.directory, ...flags],
      {
        detached: true,
        stdio: ['ignore', log, log, 'ipc'],
        env: { ...process.env, ...environment },
      },
    );
    closeSync(log);
    const ended = once(supervisor, 'exit').then(([code]) => {
      throw new FerryError(
        'PART_UNREACHABLE',
        `the supervisor ended with exit code ${code}:\n${tailFrom(logFile, said)}`,
      );
    });
    await Promise.race([once(supervisor, 'message'), ended]);
    ended.catch(() => {});
    supervisor.disconnect();
    supervisor.unref();
  });
}
