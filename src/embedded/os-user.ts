/**
 * The user that Postgres runs as. Postgres refuses root, so root hands it to an unprivileged user that exists everywhere: `postgres`,
 * else `nobody` (no user is ever created: Ferry changes nothing outside its own directories).
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
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
  /** Owner on disk of what the program writes. */
  readonly owner?: { readonly uid: number; readonly gid: number };
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
 * The command line that runs `command` as the user. Where the user cannot enter a directory on the way to one of `paths` (a clone in
 * /root, which is 0700), the program runs in a user namespace instead, in which root bears the user's name: it is root for the file
 * system and not root for Postgres. Where the system allows no namespaces that is HOME_UNUSABLE.
 */
export function runAs(user: OsUser | undefined, command: string, args: readonly string[], paths: string[]): RunAs {
  if (user === undefined) return { command, args };
  const closed = paths.map((path) => closedDirectory(user, path)).find((directory) => directory !== undefined);
  if (closed === undefined) return { command, args, user, owner: user };
  const namespace = ['--user', `--map-user=${user.uid}`, `--map-group=${user.gid}`];
  if (!succeeds('unshare', [...namespace, 'true'])) {
    throw new FerryError(
      'HOME_UNUSABLE',
      `Postgres runs as user ${user.name}, who cannot enter ${closed}: run \`chmod o+x ${closed}\`, or keep Ferry elsewhere`,
    );
  }
  return { command: 'unshare', args: [...namespace, '--', command, ...args], owner: { uid: 0, gid: 0 } };
}

/** Makes `owner` the owner of a directory and all in it, unless it is. */
export function giveTo(owner: RunAs['owner'], path: string): void {
  if (owner === undefined || statSync(path).uid === owner.uid) return;
  execFileSync('chown', ['-R', `${owner.uid}:${owner.gid}`, path]);
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

function succeeds(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
