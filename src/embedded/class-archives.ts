/**
 * Archives of the classes that Kafka and the registry load when they start: later starts map them instead of reading, checking and linking
 * each class again, which is most of what a start costs (measured on two cores: Kafka 2.6 s of CPU instead of 5.1, the registry 3.8
 * instead of 6.5). Source: JEP 350, Dynamic CDS Archives.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FerryError } from '../kernel/errors.ts';
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
  // Always the same home: whoever comes after a SIGKILL ends what was left running in it.
  const home = new Home(`${java.archives}.home`);
  try {
    await home.claim();
  } catch (error) {
    if (error instanceof FerryError && error.code === 'ALREADY_RUNNING') return; // they are being made; this start does without
    throw error;
  }
  const draft = home.path('archives');
  try {
    if (existsSync(java.archives)) return; // they were made meanwhile
    progress('archiving the classes of Kafka and the registry for later starts (once)');
    home.deleteData();
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft);
    const kafka = kafkaRecipe(home, await freePort(), await freePort(), java);
    const registry = registryRecipe(home, await freePort(), java, undefined);
    await Promise.allSettled([kafka, registry].map((recipe) => archive(recipe, join(draft, `${recipe.name}.jsa`))));
    renameSync(draft, java.archives);
  } finally {
    home.deleteData(); // not the home itself: somebody may be waiting to claim it
    home.release();
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
