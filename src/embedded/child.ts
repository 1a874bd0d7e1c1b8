/** A child process of the stack: recorded in the home, its output in a log file, ended by signals with deadlines. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { sleep } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Home } from './home.ts';
import { endProcess, identifyProcess, type ProcessIdentity } from './process-identity.ts';

export interface ChildOptions {
  readonly home: Home;
  /** Names the process in `processes.json` and its log file. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Another user to run as; only root may. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Opens a channel to a Node program and hears its messages; the program notices by it that this process died. */
  readonly onMessage?: (message: unknown) => void;
}

export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Child {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves when the process has ended, however it did. */
  readonly exited: Promise<ChildExit>;
  readonly #identity: ProcessIdentity;
  readonly #sent = new Set<NodeJS.Signals>();
  #exit: ChildExit | undefined;

  private constructor(options: ChildOptions, process: ChildProcess, identity: ProcessIdentity, logFile: string) {
    this.name = options.name;
    this.pid = identity.pid;
    this.logFile = logFile;
    this.#identity = identity;
    this.exited = new Promise((resolve) => {
      process.once('exit', (code, signal) => {
        this.#exit = { code, signal };
        options.home.forget(identity.pid);
        resolve(this.#exit);
      });
    });
  }

  /**
   * Starts it in a session of its own: a Ctrl-C in the terminal reaches only the parent, which ends its children in order. Throws
   * PART_MISSING if the program cannot be run.
   */
  static async start(options: ChildOptions): Promise<Child> {
    const logFile = options.home.path('logs', `${options.name}.log`);
    const log = openSync(logFile, 'a', 0o600);
    try {
      const child = spawn(options.command, [...options.args], {
        detached: true,
        stdio: options.onMessage === undefined ? ['ignore', log, log] : ['ignore', log, log, 'ipc'],
        env: { ...process.env, ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        ...(options.user ?? {}),
      });
      await once(child, 'spawn').catch((cause) => {
        throw new FerryError('PART_MISSING', `${options.command} could not be run`, { cause });
      });
      const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
      if (identity === undefined) {
        throw new FerryError('PART_UNREACHABLE', `${options.name} ended as soon as it was started: ${tail(logFile)}`);
      }
      options.home.record({ name: options.name, ...identity });
      if (options.onMessage !== undefined) child.on('message', options.onMessage);
      return new Child(options, child, identity, logFile);
    } finally {
      closeSync(log);
    }
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** Tries `probe` until it succeeds. Throws PART_UNREACHABLE, with the end of the log, when the process ends or time is up. */
  async waitUntilReady(probe: () => Promise<unknown>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      try {
        await probe();
        return;
      } catch (cause) {
        const ended = this.#exit;
        if (ended !== undefined || performance.now() > deadline) {
          const how =
            ended === undefined ? `did not get ready within ${timeoutMs} ms` : `ended with ${exitText(ended)}`;
          throw new FerryError(
            'PART_UNREACHABLE',
            `${this.name} ${how}; the end of ${this.logFile}:\n${tail(this.logFile)}`,
            {
              cause,
            },
          );
        }
      }
      await Promise.race([sleep(50), this.exited]);
    }
  }

  /** Sends the signals in turn, each once with its grace in milliseconds; resolves when the process has ended. May be called again. */
  async stop(...signals: Array<readonly [NodeJS.Signals, number]>): Promise<void> {
    if (!this.running) return;
    await endProcess(this.#identity, [...signals, ['SIGKILL', 5_000]], this.#sent);
    await this.exited;
  }
}

export function exitText(exit: ChildExit): string {
  return exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
}

/** What a log says from a byte on. */
export function tailFrom(file: string, start: number): string {
  return readFileSync(file).subarray(start).toString().trimEnd();
}

/** The last lines of a log, for an error message. */
export function tail(file: string, lines = 12): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}
