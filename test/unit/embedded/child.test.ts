/** Real child processes, stopped more than once: by a command that is done with them, by its scope, by a crash that is wanted. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Child } from '../../../src/embedded/child.ts';
import { Home } from '../../../src/embedded/home.ts';

const home = new Home(mkdtempSync(join(tmpdir(), 'ferry-child-')));
before(() => home.claim());
after(() => rmSync(home.directory, { recursive: true, force: true }));

/** Runs a script that says `up` when it is ready to be signalled. */
async function start(script: string): Promise<Child> {
  const { promise: up, resolve } = Promise.withResolvers<unknown>();
  const args = ['-e', `${script}; setInterval(() => {}, 1_000); process.send('up')`];
  const child = await Child.start({ home, name: 'script', command: process.execPath, args, onMessage: resolve });
  await up;
  return child;
}

test('a second stop waits for the first one’s signal instead of sending it again', async () => {
  const child = await start(
    `process.on('SIGTERM', () => { console.log('told'); setTimeout(() => process.exit(7), 200) })`,
  );
  await Promise.all([child.stop(['SIGTERM', 20_000]), child.stop(['SIGTERM', 20_000])]);
  assert.deepEqual(await child.exited, { code: 7, signal: null });
  assert.equal(readFileSync(child.logFile, 'utf8'), 'told\n');
});

test('a SIGKILL goes through while a SIGTERM is waited for', async () => {
  const child = await start(`process.on('SIGTERM', () => {})`);
  const patient = child.stop(['SIGTERM', 60_000]);
  await child.stop(['SIGKILL', 5_000]);
  await patient;
  assert.deepEqual(await child.exited, { code: null, signal: 'SIGKILL' });
});
