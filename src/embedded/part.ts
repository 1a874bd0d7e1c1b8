/** What every embedded part can do: start, stop and be killed, always on the same port and data. */
import { sleep } from '../kernel/deadline.ts';
import { Child, type ChildExit, type ChildOptions } from './child.ts';

const START_PAUSE_MS = 250;

export type PartName = 'postgres' | 'kafka' | 'registry' | 'payment-provider';

/** A command to run, and how to tell that what it runs is ready and how to end it. */
export interface PartRecipe {
  readonly name: PartName;
  readonly port: number;
  /** Runs before each start; makes data directories and configuration, once. */
  prepare(): Promise<void>;
  command(): Omit<ChildOptions, 'name'>;
  /** Rejects until the part answers as its clients need it to. */
  probe(): Promise<unknown>;
  readonly readyTimeoutMs: number;
  /** How often it is started anew when it ends before it is ready; 1 where a second try cannot go better. */
  readonly startAttempts: number;
  readonly stopSignals: ReadonlyArray<readonly [NodeJS.Signals, number]>;
}

export class EmbeddedPart {
  readonly name: PartName;
  readonly port: number;
  readonly #recipe: PartRecipe;
  readonly #onDeath: (part: EmbeddedPart, exit: ChildExit) => void;
  #child: Child | undefined;
  #expectedToRun = false;

  /** `onDeath` hears of an end that nobody asked for. */
  constructor(recipe: PartRecipe, onDeath: (part: EmbeddedPart, exit: ChildExit) => void) {
    this.name = recipe.name;
    this.port = recipe.port;
    this.#recipe = recipe;
    this.#onDeath = onDeath;
  }

  get running(): boolean {
    return this.#child?.running === true;
  }

  get pid(): number | undefined {
    return this.running ? this.#child?.pid : undefined;
  }

  /** Starts it and waits until it is ready; does nothing if it runs. Throws PART_UNREACHABLE with the end of its log. */
  async start(): Promise<void> {
    if (this.running) return;
    await this.#recipe.prepare();
    const child = await this.#startOnce(1);
    this.#expectedToRun = true;
    child.exited.then((exit) => {
      if (this.#child === child && this.#expectedToRun) this.#onDeath(this, exit);
    });
  }

  async #startOnce(attempt: number): Promise<Child> {
    const child = await Child.start({ name: this.name, ...this.#recipe.command() });
    this.#child = child;
    try {
      await child.waitUntilReady(() => this.#recipe.probe(), this.#recipe.readyTimeoutMs);
      return child;
    } catch (error) {
      const ended = !child.running;
      await this.kill();
      if (!ended || attempt >= this.#recipe.startAttempts) throw error;
    }
    await sleep(START_PAUSE_MS);
    return this.#startOnce(attempt + 1);
  }

  /** Ends it cleanly; resolves when the process is gone, with how it ended if it ever ran. */
  async stop(): Promise<ChildExit | undefined> {
    this.#expectedToRun = false;
    await this.#child?.stop(...this.#recipe.stopSignals);
    return this.#child?.exited;
  }

  /** Ends it with SIGKILL, as a crash would. */
  async kill(): Promise<void> {
    this.#expectedToRun = false;
    await this.#child?.stop(['SIGKILL', 5_000]);
  }
}
