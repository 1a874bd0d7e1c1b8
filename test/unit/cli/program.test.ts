import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, describe, test } from 'node:test';

const MAIN = resolve(import.meta.dirname, '../../../src/main.ts');
const home = mkdtempSync(join(tmpdir(), 'ferry-cli-'));
after(() => rmSync(home, { recursive: true }));

/** Runs the command line as a user does, from another working directory. */
function ferry(args: string[], environment: Record<string, string> = {}) {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    cwd: home,
    encoding: 'utf8',
    env: { PATH, NODE_COMPILE_CACHE, FERRY_HOME: home, ...environment },
  });
  return { status, stdout, stderr };
}

describe('./ferry', () => {
  test('every command of --help has its own help, with the exit codes', () => {
    const { status, stdout } = ferry(['--help']);
    assert.equal(status, 0);
    for (const name of [
      'demo',
      'bench',
      'up',
      'down',
      'status',
      'tail',
      'migrate',
      'schemas',
      'sagas',
      'serve',
      'config',
      'test',
    ]) {
      assert.match(stdout, new RegExp(`^ {2}${name}\\b`, 'm'));
    }
    const demo = ferry(['demo', '--help']).stdout;
    for (const option of ['--orders', '--kill-relay', '--keep', '--json', '--home']) assert.ok(demo.includes(option));
    assert.match(demo, /Exit codes: 0 fine, 1 failed check, 2 wrong usage, 3 a part is missing/);
  });

  test('wrong usage is exit code 2, with what was wrong', () => {
    for (const [args, message] of [
      [['nonsense'], /unknown command/],
      [['demo', '--orders', 'many'], /whole number/],
      [['schemas', 'drop'], /check, push, list/],
      [['bench', 'nonsense'], /sagas/],
      [['up', '--nonsense'], /unknown option/],
    ] as const) {
      const { status, stderr } = ferry([...args]);
      assert.equal(status, 2, args.join(' '));
      assert.match(stderr, message);
    }
  });

  test('a wrong setting is exit code 2: the variable, what it got, what it takes, and no stack', () => {
    const { status, stderr } = ferry(['config'], { HTTP_PORT: 'eighty' });
    assert.equal(status, 2);
    assert.match(stderr, /HTTP_PORT is "eighty"; it takes a whole number from 0 to 65535/);
    assert.doesNotMatch(stderr, /\n {4}at /);
    assert.match(ferry(['config'], { HTTP_PORT: 'eighty', LOG_LEVEL: 'debug' }).stderr, /\n {4}at /);
  });

  test('config prints every setting, and no secret', () => {
    const secret = 'hunter2hunter2';
    const environment = { DATABASE_URL: `postgres://ferry:${secret}@db.example/x`, IDEMPOTENCY_KEY_SECRET: secret };
    for (const args of [['config'], ['config', '--json']]) {
      const { status, stdout } = ferry(args, environment);
      assert.equal(status, 0);
      assert.ok(stdout.includes('postgres://ferry:***@db.example/x'));
      assert.ok(!stdout.includes(secret));
    }
    const settings = JSON.parse(ferry(['config', '--json'], environment).stdout) as Array<Record<string, unknown>>;
    const batch = settings.find(({ name }) => name === 'RELAY_BATCH_MAX_BYTES');
    assert.deepEqual(
      { value: batch?.value, default: batch?.default, unit: batch?.unit, set: batch?.set },
      { value: '4194304', default: '4194304', unit: 'bytes', set: false },
    );
  });

  test('with nothing running, status says so of each part, with exit code 3; down is content', () => {
    const { status, stdout } = ferry(['status', '--json']);
    assert.equal(status, 3);
    const parts = JSON.parse(stdout) as Record<string, { ok: boolean }>;
    for (const part of ['http', 'postgres', 'kafka', 'registry', 'relay']) assert.equal(parts[part]?.ok, false);
    const tail = ferry(['tail']);
    assert.equal(tail.status, 3);
    assert.match(tail.stderr, /KAFKA_BROKERS is not set, and nothing was ever started/);
    assert.equal(ferry(['down']).status, 0);
  });
});
