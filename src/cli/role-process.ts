/** A role of the service as a process of its own: started, watched, started again when it dies. */
import { setTimeout as delay } from 'node:timers/promises';
import { Child, type ChildExit, tail } from '../embedded/child.ts';
import type { Home } from '../embedded/home.ts';
import { backoffMs, withDeadline } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import { isReadyMessage } from './service.ts';
import { type Environment, REPOSITORY } from './session.ts';

export interface RoleProcessOptions {
  readonly home: Home;
  /** Name of the process and of its log. */
  readonly name: string;
  /** Comma-separated roles. */
  readonly roles: string;
  readonly environment: Environment;
  /** Hears of each end that nobody asked for, before the process is started again. */
  readonly onDeath?: (exit: ChildExit) => void;
}

const READY_TIMEOUT_MS = 60_000;
const BACKOFF_BASE_MS = 200;
const BACKOFF_MAX_MS = 10_000;
/** A process that lived this long had started well: the next death starts counting anew. */
const SETTLED_AFTER_MS = 30_000;

export class RoleProcess {
  readonly #options: RoleProcessOptions;
  readonly #stopping = new AbortController();
  #child: Child | undefined;
  #ready: Promise<string | null> = Promise.resolve(null);
  #restarting: Promise<void> = Promise.resolve();
  #deaths = 0;

  private constructor(options: RoleProcessOptions) {
    this.#options = options;
  }

  /** Starts it and waits until it is up. Throws PART_UNREACHABLE with the end of its log if it does not come up. */
  static async start(options: RoleProcessOptions): Promise<RoleProcess> {
    const role = new RoleProcess(options);
    await role.#spawn();
    await role.ready().catch(async (error) => {
      await role.stop();
      throw error;
    });
    return role;
  }

  get pid(): number | undefined {
    return this.#child?.running ? this.#child.pid : undefined;
  }

  /** Resolves with the HTTP address (null if it does not listen) when the present process is up. */
  ready(): Promise<string | null> {
    return this.#ready;
  }

  /** SIGKILL, as a crash; it is started again like after any death. Resolves when the next process has been started. */
  async crash(): Promise<void> {
    const crashed = this.#child;
    await crashed?.stop(['SIGKILL', 5_000]);
    await this.#restarting;
  }

  /** SIGTERM, and SIGKILL after `graceMs`. */
  async stop(graceMs = 20_000): Promise<void> {
    this.#stopping.abort();
    await this.#child?.stop(['SIGTERM', graceMs]);
  }

  async #spawn(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<string | null>();
    const { home, name, roles, environment } = this.#options;
    const startedAt = performance.now();
    const child = await Child.start({
      home,
      name,
      command: process.execPath,
      args: [`${REPOSITORY}/src/main.ts`, 'serve', '--roles', roles],
      env: environment,
      onMessage: (message) => {
        if (isReadyMessage(message)) resolve(message.httpUrl);
      },
    });
    this.#child = child;
    const died = child.exited.then(() => {
      throw new FerryError('PART_UNREACHABLE', `${name} ended; the end of ${child.logFile}:\n${tail(child.logFile)}`);
    });
    died.catch(reject);
    this.#ready = withDeadline(`${name} getting ready`, READY_TIMEOUT_MS, promise);
    this.#ready.catch(() => {}); // whoever asks gets it; nobody has to
    child.exited.then((exit) => {
      this.#restarting = this.#restart(exit, startedAt);
    });
  }

  async #restart(exit: ChildExit, startedAt: number): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#options.onDeath?.(exit);
    this.#deaths = performance.now() - startedAt > SETTLED_AFTER_MS ? 0 : this.#deaths + 1;
    // the first time at once: most deaths are single ones
    const pauseMs = this.#deaths <= 1 ? 0 : backoffMs(this.#deaths - 2, BACKOFF_BASE_MS, BACKOFF_MAX_MS);
    await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
    if (!this.#stopping.signal.aborted) await this.#spawn();
  }
}
