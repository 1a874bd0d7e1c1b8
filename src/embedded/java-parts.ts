/**
 * The jars of Kafka and of the registry: resolved once by Maven from the pinned `docker/embedded/pom.xml` into a cache that all homes
 * share, named after the pom's content.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { FerryError } from '../kernel/errors.ts';

const run = promisify(execFile);

const REPOSITORY = resolve(import.meta.dirname, '../..');
const POM = join(REPOSITORY, 'docker/embedded/pom.xml');
const CACHE = join(REPOSITORY, '.ferry-cache');
const OLDEST_JAVA = 17;
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;

export interface JavaParts {
  readonly java: string;
  /** Directory of the broker's jars. */
  readonly kafka: string;
  /** Directory of the registry's own distribution. */
  readonly registry: string;
  /** Storage that this Kafka has formatted, to be copied (kafka.ts); it need not be there. */
  readonly formatted: string;
  /** Directory of the class archives (class-archives.ts), of these jars and this Java; it need not be there. */
  readonly archives: string;
}

/** What makes a JVM use the archive of a part's classes, if there is one. */
export function archiveArguments({ archives }: JavaParts, part: 'kafka' | 'registry'): string[] {
  const file = join(archives, `${part}.jsa`);
  return existsSync(file) ? [`-XX:SharedArchiveFile=${file}`] : [];
}

/** Finds or fetches them. Throws PART_MISSING naming the program that is not there. */
export async function resolveJavaParts(progress: (message: string) => void): Promise<JavaParts> {
  const { java, build } = await findJava();
  const version = createHash('sha256').update(readFileSync(POM)).digest('hex').slice(0, 12);
  const directory = join(CACHE, `java-${version}`);
  if (!existsSync(directory)) {
    progress('fetching Kafka and the schema registry with Maven (about 160 MB, once)');
    await fetchInto(directory);
  }
  const archives = `${directory}-classes-${createHash('sha256').update(build).digest('hex').slice(0, 12)}`;
  return {
    java,
    kafka: join(directory, 'kafka'),
    registry: join(directory, 'registry'),
    formatted: `${directory}-formatted`,
    archives,
  };
}

/** `build`: what it says of itself. */
async function findJava(): Promise<{ java: string; build: string }> {
  const home = process.env.JAVA_HOME || undefined; // an empty one is none
  const java = home !== undefined && existsSync(join(home, 'bin/java')) ? join(home, 'bin/java') : 'java';
  const { stderr } = await run(java, ['-version']).catch((cause) => {
    throw new FerryError('PART_MISSING', `Java ${OLDEST_JAVA} or newer is not installed`, { cause });
  });
  const major = Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0);
  if (major < OLDEST_JAVA) {
    throw new FerryError('PART_MISSING', `${java} is version ${major}; Java ${OLDEST_JAVA} or newer is needed`);
  }
  return { java, build: `${java} ${stderr}` };
}

/** Fetched aside and renamed, so that the cache is whole or absent, whoever else fetches at the same time. */
async function fetchInto(directory: string): Promise<void> {
  const draft = `${directory}.${process.pid}.tmp`;
  mkdirSync(draft, { recursive: true });
  try {
    await run('mvn', ['--batch-mode', '--quiet', '--file', POM, `-Dcache=${draft}`, 'generate-resources'], {
      cwd: draft,
      timeout: DOWNLOAD_TIMEOUT_MS,
      maxBuffer: 16 * 1024 * 1024,
    });
    renameSync(draft, directory);
  } catch (cause) {
    if (existsSync(directory)) return; // somebody else was faster
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new FerryError('PART_MISSING', 'Maven (mvn) is not installed', { cause });
    }
    const output = String((cause as { stdout?: string }).stdout ?? '').trim();
    throw new FerryError('PART_MISSING', `Maven could not fetch Kafka and the registry: ${output.slice(0, 500)}`);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}
