import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import {
  endProcess,
  identifyProcess,
  isStillRunning,
  type ProcessIdentity,
} from '../../../src/embedded/process-identity.ts';

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
});

/** A Node process that has run `code`, and said so. */
async function startNode(code: string): Promise<{ child: ChildProcess; identity: ProcessIdentity }> {
  const child = spawn(process.execPath, ['-e', `${code}; console.log('up'); setInterval(() => {}, 1000)`]);
  children.push(child);
  await once(child.stdout, 'data');
  const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
  assert.ok(identity);
  return { child, identity };
}

describe('identifyProcess', () => {
  test('is the same as long as the process runs, and nothing afterwards', async () => {
    const { child, identity } = await startNode('');
    assert.deepEqual(identifyProcess(identity.pid), identity);
    assert.equal(isStillRunning(identity), true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(isStillRunning(identity), false);
  });

  test('tells two processes of one pid apart by their start', () => {
    const self = identifyProcess(process.pid);
    assert.ok(self);
    assert.equal(isStillRunning({ ...self, startedAt: `${self.startedAt}0` }), false);
  });

  test('a zombie counts as gone', { skip: process.platform !== 'linux' }, async () => {
    // the shell's child ends, and the shell never waits for it
    const shell = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 30']);
    children.push(shell);
    const [line] = (await once(shell.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    while (identifyProcess(pid) !== undefined) await new Promise((resolve) => setTimeout(resolve, 10));
    process.kill(pid, 0); // still in the process table: this would throw otherwise
  });
});

describe('endProcess', () => {
  test('sends the next signal to one that ignores the first', async () => {
    const { child, identity } = await startNode(`process.on('SIGTERM', () => {})`);
    const exit = once(child, 'exit');
    assert.equal(
      await endProcess(identity, [
        ['SIGTERM', 100],
        ['SIGKILL', 5_000],
      ]),
      true,
    );
    assert.deepEqual(await exit, [null, 'SIGKILL']);
  });

  test('leaves a stranger with the same pid alone', async () => {
    const { identity } = await startNode('');
    await endProcess({ pid: identity.pid, startedAt: 'another' }, [['SIGKILL', 100]]);
    assert.equal(isStillRunning(identity), true);
  });
});
