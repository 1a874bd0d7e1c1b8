/**
 * Archives of the classes that Kafka and the registry load when they start: later starts map them instead of reading, checking and linking
 * each class again, which is most of what a start costs (measured on two cores: Kafka 2.6 s of CPU instead of 5.1, the registry 3.8
 * instead of 6.5). Source: JEP 350, Dynamic CDS Archives.
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Home } from './home.ts';
import type { JavaParts } from './java-parts.ts';
import { kafkaRecipe } from './kafka.ts';
import { EmbeddedPart, type PartRecipe } from './part.ts';
import { freePort } from './ports.ts';
import { registryRecipe } from './registry.ts';

/** Java writes an archive when it ends, which takes seconds. */
const WRITE_TIMEOUT_MS = 120_000;

/**
 * Makes them unless that was done before, by a start and a stop of each part with nothing in it. What cannot be archived starts without, now
 * and later; never rejects for that.
 */
export async function ensureClassArchives(java: JavaParts, progress: (message: string) => void): Promise<void> {
  if (existsSync(java.archives)) return;
  progress('archiving the classes of Kafka and the registry for later starts (once)');
  const draft = `${java.archives}.${process.pid}.tmp`;
  mkdirSync(draft, { recursive: true });
  const home = new Home(mkdtempSync(join(tmpdir(), 'ferry-classes-')));
  await home.claim();
  try {
    const kafka = kafkaRecipe(home, await freePort(), await freePort(), java);
    const registry = registryRecipe(home, await freePort(), java, undefined);
    await Promise.allSettled([kafka, registry].map((recipe) => archive(recipe, join(draft, `${recipe.name}.jsa`))));
    renameSync(draft, java.archives);
  } catch (error) {
    if (!existsSync(java.archives)) throw error; // else somebody else was faster
  } finally {
    home.release();
    rmSync(home.directory, { recursive: true, force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}

/** The archive is whole or absent. */
async function archive(recipe: PartRecipe, file: string): Promise<void> {
  const { args, ...command } = recipe.command();
  const part = new EmbeddedPart(
    {
      ...recipe,
      command: () => ({ ...command, args: [`-XX:ArchiveClassesAtExit=${file}`, ...args] }),
      stopSignals: [['SIGTERM', WRITE_TIMEOUT_MS]],
    },
    () => {},
  );
  try {
    await part.start();
  } finally {
    const exit = await part.stop();
    if (exit?.signal !== null) rmSync(file, { force: true }); // it did not end by itself
  }
}
