/** Ferry's roles as processes of their own, started as a user would, watched by their JSON log, killed as a machine would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DeadlineError } from '../../src/kernel/deadline.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const KEPT_LINES = 2_000;
const DEFAULT_DEADLINE_MS = 180_000;

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface ProcessOptions {
  /** `relay`, `api`, `consumers`, or several separated by commas. */
  readonly roles?: string;
  /** A program of the tests that runs instead of Ferry's. */
  readonly script?: string;
  /** Settings; nothing of the test's own environment is passed on but PATH and what node needs. */
  readonly env: Readonly<Record<string, string>>;
  /** Hears of every line that it writes, to either output. */
  readonly onLine?: (text: string) => void;
}

interface Waiter {
  readonly matches: (line: LogLine) => boolean;
  readonly resolve: (line: LogLine) => void;
  readonly reject: (error: Error) => void;
}

export class FerryProcess {
  readonly #options: ProcessOptions;
  readonly #waiters = new Set<Waiter>();
  /** Standard error and lines that are no JSON: what a crash leaves. */
  readonly output: string[] = [];
  /** Log lines since the last start. */
  lines: LogLine[] = [];
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(options: ProcessOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Most memory that the process has held so far; null where /proc does not tell. */
  peakMemoryBytes(): number | null {
    try {
      const status = readFileSync(`/proc/${this.#child?.pid}/status`, 'utf8');
      const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
      return kilobytes === undefined ? null : Number(kilobytes) * 1024;
    } catch {
      return null;
    }
  }

  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }

  /** The signal that ended it; null while it runs or when it ended by itself. */
  get signal(): NodeJS.Signals | null {
    return this.#child?.signalCode ?? null;
  }

  /** Starts it; `extra` holds for this start only, such as FERRY_FAIL_POINT. */
  start(extra: Readonly<Record<string, string>> = {}): void {
    if (this.running) throw new Error('it is running already');
    const inherited = ['PATH', 'HOME', 'TMPDIR'].map((name) => [name, process.env[name] ?? '']);
    const { roles = '', script } = this.#options;
    const child = spawn(process.execPath, script === undefined ? [MAIN, 'serve', '--roles', roles] : [script], {
      env: { ...Object.fromEntries(inherited), LOG_FORMAT: 'json', HTTP_PORT: '0', ...this.#options.env, ...extra },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    this.lines = [];
    const killWithParent = () => child.kill('SIGKILL');
    process.once('exit', killWithParent);
    this.#ended = once(child, 'close').then(() => {
      process.off('exit', killWithParent);
      this.#failWaiters(`the process ended with ${child.signalCode ?? child.exitCode}`);
    });
    createInterface({ input: child.stdout }).on('line', (line) => this.#read(line));
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#options.onLine?.(line);
      this.#keep(line);
    });
  }

  /** The first log line since the last start that matches, if it has been there or when it comes. */
  waitForLog(what: string, matches: (line: LogLine) => boolean, deadlineMs = DEFAULT_DEADLINE_MS): Promise<LogLine> {
    const seen = this.lines.find(matches);
    if (seen !== undefined) return Promise.resolve(seen);
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const waiter: Waiter = {
        matches,
        resolve: (line) => {
          settle();
          resolve(line);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const timer = setTimeout(() => waiter.reject(this.#explain(new DeadlineError(what, deadlineMs))), deadlineMs);
      this.#waiters.add(waiter);
    });
  }

  /** Resolves when the process has ended by itself (a fail point, a crash). */
  async exited(): Promise<void> {
    await this.#ended;
  }

  /** As a power cut would. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  /** Asks it to stop and resolves with its exit code. */
  async stop(): Promise<number | null> {
    this.#child?.kill('SIGTERM');
    await this.#ended;
    return this.exitCode;
  }

  /** A host that hangs: the process does not run and its connections stay. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  #read(text: string): void {
    this.#options.onLine?.(text);
    let line: LogLine;
    try {
      line = JSON.parse(text);
    } catch {
      this.#keep(text);
      return;
    }
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
    for (const waiter of this.#waiters) if (waiter.matches(line)) waiter.resolve(line);
  }

  #keep(text: string): void {
    this.output.push(text);
    if (this.output.length > KEPT_LINES) this.output.shift();
  }

  #failWaiters(reason: string): void {
    for (const waiter of this.#waiters) waiter.reject(this.#explain(new Error(reason)));
  }

  #explain(error: Error): Error {
    const last = [...this.lines.slice(-5).map((line) => JSON.stringify(line)), ...this.output.slice(-20)];
    error.message += `; its last lines:\n${last.join('\n')}`;
    return error;
  }
}
