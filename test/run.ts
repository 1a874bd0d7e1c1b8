/**
 * `./ferry test [unit|integration|chaos] [files…]`: the static checks and the suites, one stack of real parts for all of them. The last
 * line printed is `N passed, N failed`; the exit code is 1 if anything failed or nothing ran.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { onStopSignal } from '../src/cli/signals.ts';
import { describeError } from '../src/kernel/errors.ts';
import { SHARED_STACK, startTestStack } from './support/stack.ts';

interface Suite {
  readonly name: string;
  readonly files: string;
  /** Test files that run at the same time: two cores; chaos measures recovery and wants the machine for itself. */
  readonly concurrency: number;
  readonly needsStack: boolean;
  /** A test that takes longer is hanging. */
  readonly timeoutMs: number;
}

interface Counts {
  passed: number;
  failed: number;
}

const ROOT = resolve(import.meta.dirname, '..');

const SUITES: readonly Suite[] = [
  { name: 'unit', files: 'test/unit/**/*.test.ts', concurrency: 2, needsStack: false, timeoutMs: 120_000 },
  {
    name: 'integration',
    files: 'test/{integration,contract,issues}/**/*.test.ts',
    concurrency: 2,
    needsStack: true,
    timeoutMs: 600_000,
  },
  { name: 'chaos', files: 'test/chaos/**/*.test.ts', concurrency: 1, needsStack: true, timeoutMs: 1_200_000 },
];

const CHECKS: ReadonlyArray<readonly [name: string, command: string, args: string[]]> = [
  ['biome', 'node_modules/.bin/biome', ['check', '--reporter=summary', '.']],
  ['tsc', 'node_modules/.bin/tsc', ['--noEmit']],
];

async function check(): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0 };
  for (const [name, command, args] of CHECKS) {
    const child = spawn(resolve(ROOT, command), args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
    const [code] = await once(child, 'exit');
    if (code === 0) counts.passed++;
    else counts.failed++;
    console.log(`${code === 0 ? '✔' : '✖'} ${name}`);
  }
  return counts;
}

/** Files of a suite; with `wanted` only those whose path has one of these texts in it. */
function filesOf(suite: Suite, wanted: readonly string[]): string[] {
  const files = globSync(suite.files, { cwd: ROOT }).sort();
  return files.filter((file) => wanted.length === 0 || wanted.some((text) => matches(file, text)));
}

function matches(file: string, text: string): boolean {
  return file.includes(text) || relative(ROOT, resolve(text)) === file;
}

async function runSuite(suite: Suite, files: string[], signal: AbortSignal): Promise<Counts> {
  console.log(`\n${suite.name}: ${files.length} files`);
  const counts: Counts = { passed: 0, failed: 0 };
  const stream = run({
    files: files.map((file) => resolve(ROOT, file)),
    cwd: ROOT,
    concurrency: suite.concurrency,
    timeout: suite.timeoutMs,
    signal,
  });
  stream.on('test:summary', ({ file, counts: total }) => {
    if (file !== undefined) return; // the whole run's follows its files'
    counts.passed += total.passed;
    counts.failed += total.tests - total.passed - total.skipped - total.todo;
  });
  const report = stream.compose(spec);
  report.pipe(process.stdout, { end: false });
  await once(report, 'end');
  return counts;
}

async function main(args: readonly string[]): Promise<number> {
  const names = SUITES.map((suite) => suite.name);
  const chosen = args.filter((arg) => names.includes(arg));
  const wanted = args.filter((arg) => !names.includes(arg));
  const suites = SUITES.filter((suite) => chosen.length === 0 || chosen.includes(suite.name))
    .map((suite) => ({ suite, files: filesOf(suite, wanted) }))
    .filter(({ files }) => files.length > 0);
  const total: Counts = args.length === 0 ? await check() : { passed: 0, failed: 0 };
  let stack: Awaited<ReturnType<typeof startTestStack>> | undefined;
  const stop = onStopSignal(); // a Ctrl-C takes the stack down too
  try {
    for (const { suite, files } of suites) {
      stop.signal.throwIfAborted();
      if (suite.needsStack && stack === undefined) {
        stack = await startTestStack();
        for (const [part, variable] of Object.entries(SHARED_STACK)) {
          process.env[variable] = stack.addresses[part as keyof typeof SHARED_STACK];
        }
      }
      const counts = await runSuite(suite, files, stop.signal);
      total.passed += counts.passed;
      total.failed += counts.failed;
    }
  } catch (error) {
    console.error(describeError(error));
    total.failed++;
  } finally {
    await stack?.close();
  }
  if (total.passed + total.failed === 0) console.error(`no test matches ${args.join(' ')}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
