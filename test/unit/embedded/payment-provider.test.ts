/** The provider's process and the one that started it. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { endProcess, isStillRunning, type ProcessIdentity } from '../../../src/embedded/process-identity.ts';
import { waitUntil } from '../../support/signals.ts';

test('it ends with the process that started it, however that ends', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'ferry-provider-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const parent = fork(join(import.meta.dirname, '../../support/provider-parent.ts'), [directory]);
  const [provider] = (await once(parent, 'message')) as [ProcessIdentity];
  t.after(() => endProcess(provider, [['SIGKILL', 5_000]]));
  assert.ok(isStillRunning(provider));
  parent.kill('SIGKILL');
  await waitUntil('the provider’s end', async () => !isStillRunning(provider));
});
