/** Fail points: silent unless armed, exact when armed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { armFailPoint, FAIL_POINTS, noFailPoints } from '../../../src/kernel/fail-point.ts';

const MODULE = join(import.meta.dirname, '..', '..', '..', 'src', 'kernel', 'fail-point.ts');

test('unarmed, every point is passed', () => {
  assert.equal(armFailPoint(undefined), noFailPoints);
  for (const name of FAIL_POINTS) noFailPoints(name);
});

test('armed to throw, only the named point fails, and only the nth time', () => {
  const pass = armFailPoint('after-send:3:throw');
  for (const name of FAIL_POINTS) if (name !== 'after-send') pass(name);
  pass('after-send');
  pass('after-send');
  assert.throws(() => pass('after-send'), /fail point after-send/);
  pass('after-send');
});

test('armed to kill, the process ends as by SIGKILL, with no handler run', () => {
  const script = `
    import { armFailPoint } from ${JSON.stringify(MODULE)};
    process.on('exit', () => console.log('handler'));
    const pass = armFailPoint('after-encode:2');
    pass('after-encode');
    console.log('once');
    pass('after-encode');
    console.log('twice');`;
  const ended = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(ended.signal, 'SIGKILL');
  assert.equal(ended.stdout, 'once\n');
});

test('what names no point is refused, with the names that there are', () => {
  for (const spec of ['', 'nowhere', 'after-send:0', 'after-send:x', 'after-send:1:burn']) {
    assert.throws(() => armFailPoint(spec), /after-send/, spec);
  }
});
