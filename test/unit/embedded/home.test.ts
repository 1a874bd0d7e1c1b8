import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Home } from '../../../src/embedded/home.ts';
import { identifyProcess, isStillRunning } from '../../../src/embedded/process-identity.ts';
import { FerryError } from '../../../src/kernel/errors.ts';

const root = mkdtempSync(join(tmpdir(), 'ferry-home-'));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(root, { recursive: true });
});

let count = 0;
function newHome(): Home {
  return new Home(join(root, String(count++)));
}

/** The runner's time-out ends it. */
async function untilGone(home: Home): Promise<void> {
  while (existsSync(home.path('deleted'))) await sleep(5);
}

function startSleeper(): { pid: number; startedAt: string } {
  const child = spawn('sleep', ['60']);
  children.push(child);
  const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
  assert.ok(identity);
  return identity;
}

describe('Home', () => {
  test('has one owner until it is released', async () => {
    const home = newHome();
    assert.equal(home.owner(), undefined);
    await home.claim();
    assert.equal(home.owner()?.pid, process.pid);
    home.release();
    assert.equal(home.owner(), undefined);
    assert.equal(home.abandoned, false);
  });

  test('refuses a second owner while the first is alive', async () => {
    const home = newHome();
    await home.claim();
    writeFileSync(home.path('owner.json'), JSON.stringify(startSleeper()));
    await assert.rejects(home.claim(), (error) => error instanceof FerryError && error.code === 'ALREADY_RUNNING');
  });

  test('goes over to the next when its owner died, whose processes are ended, and no others', async () => {
    const home = newHome();
    await home.claim();
    const left = startSleeper();
    const stranger = startSleeper();
    home.record({ name: 'kafka', ...left });
    home.record({ name: 'registry', pid: stranger.pid, startedAt: 'long ago' }); // the pid was given away since
    writeFileSync(home.path('owner.json'), JSON.stringify({ pid: process.pid, startedAt: 'long ago' }));
    assert.equal(home.abandoned, true);
    await home.claim();
    assert.equal(isStillRunning(left), false);
    assert.equal(isStillRunning(stranger), true);
    assert.deepEqual(home.processes(), []);
  });

  test('keeps secrets and addresses private, and secrets the same from start to start', async () => {
    const home = newHome();
    await home.claim();
    const secret = home.secret('postgres');
    home.saveAddresses({ postgresUrl: 'postgres://localhost/x' });
    assert.equal(home.secret('postgres'), secret);
    assert.match(secret, /^[\w-]{32}$/);
    for (const file of ['postgres.secret', 'addresses.json']) {
      assert.equal(statSync(home.path(file)).mode & 0o777, 0o600);
    }
  });

  test('deletes data and what belongs to it, and stays claimed', async () => {
    const home = newHome();
    await home.claim();
    const secret = home.secret('postgres');
    home.saveAddresses({ kafkaBrokers: '127.0.0.1:1' });
    writeFileSync(home.path('dev.env'), '');
    home.deleteData();
    assert.equal(home.owner()?.pid, process.pid);
    assert.deepEqual(home.addresses(), {});
    assert.equal(existsSync(home.path('dev.env')), false);
    assert.notEqual(home.secret('postgres'), secret);
    assert.deepEqual(readdirSync(home.path('logs')), []);
    await untilGone(home);
  });

  test('gives back the space of deleted data, also of what a killed process had left of it', async () => {
    const home = newHome();
    await home.claim();
    mkdirSync(home.path('deleted', 'left', 'kafka'), { recursive: true });
    mkdirSync(home.path('postgres', 'base'), { recursive: true });
    home.deleteData();
    assert.equal(existsSync(home.path('postgres')), false);
    await untilGone(home);
  });
});
