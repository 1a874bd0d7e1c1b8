/**
 * The user that Postgres runs as. Postgres refuses root, so root hands it to an unprivileged user that exists everywhere: `postgres`,
 * else `nobody` (no user is ever created: Ferry changes nothing outside its own directories).
 */
import { execFileSync } from 'node:child_process';
import { chownSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { FerryError } from '../kernel/errors.ts';

export interface OsUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** How to run a program as the user: the command line, and the ids for spawn where spawn is to change them. */
export interface RunAs {
  readonly command: string;
  readonly args: readonly string[];
  readonly user?: OsUser;
}

/** Undefined when this process is not root and Postgres can run as whoever runs Ferry. */
export function unprivilegedUser(): OsUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entries = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of ['postgres', 'nobody']) {
    const fields = entries.find((line) => line.startsWith(`${name}:`))?.split(':');
    if (fields !== undefined) return { name, uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new FerryError('PART_MISSING', 'Postgres refuses to run as root, and there is no user postgres or nobody');
}

/**
 * The command line that runs `command` as the user. Where the user cannot enter a directory on the way (a clone in /root, which is
 * 0700), `setpriv` leaves the process the one capability that passes such directories; without setpriv that is HOME_UNUSABLE.
 */
export function runAs(user: OsUser | undefined, command: string, args: readonly string[], paths: string[]): RunAs {
  if (user === undefined) return { command, args };
  const closed = paths.map((path) => closedDirectory(user, path)).find((directory) => directory !== undefined);
  if (closed === undefined) return { command, args, user };
  if (!hasSetpriv()) {
    throw new FerryError(
      'HOME_UNUSABLE',
      `Postgres runs as user ${user.name}, who cannot enter ${closed}: run \`chmod o+x ${closed}\`, or keep Ferry elsewhere`,
    );
  }
  const ids = [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
  const capability = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override'];
  return { command: 'setpriv', args: [...ids, ...capability, '--', command, ...args] };
}

export function giveTo(user: OsUser | undefined, path: string): void {
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

/** The first directory above `path` that the user may not enter. */
function closedDirectory(user: OsUser, path: string): string | undefined {
  const closed: string[] = [];
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    const { uid, gid, mode } = statSync(directory);
    const search = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & search) === 0) closed.unshift(directory);
    if (directory === dirname(directory)) return closed[0];
  }
}

function hasSetpriv(): boolean {
  try {
    execFileSync('setpriv', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
