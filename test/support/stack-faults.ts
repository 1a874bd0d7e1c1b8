/** Parts of a stack of a file's own made to fail, and made well again. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { PartName } from '../../src/embedded/part.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { createRandom, type Random } from './random.ts';
import { waitUntil } from './signals.ts';
import type { OwnStack } from './stack.ts';

/** Starts what is down and waits until all parts run and the registry has noticed that its database is back. */
export async function untilHealed(stack: OwnStack): Promise<void> {
  for (const part of ['postgres', 'kafka', 'registry'] as const) await stack.embedded.part(part).start();
  const registry = createRegistryClient({ url: stack.registryUrl });
  const askOften = () => Promise.all(Array.from({ length: 20 }, () => registry.subjects())); // each of its connections
  await waitUntil('the registry answering', askOften, { deadlineMs: 60_000 });
}

/** A part that hangs: it does not run, and its connections stay. */
export async function whileFrozen(stack: OwnStack, part: PartName, work: () => Promise<unknown>): Promise<void> {
  const { pid } = stack.embedded.part(part);
  assert.ok(pid !== undefined, `${part} does not run`);
  process.kill(pid, 'SIGSTOP');
  try {
    await work();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, rank: random.next() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

/** Tells its seed, so that a failed run can be repeated. */
export function seededRandom(t: TestContext): Random {
  const seed = Math.floor(Math.random() * 2 ** 31);
  t.diagnostic(`seed ${seed}`);
  return createRandom(seed);
}
