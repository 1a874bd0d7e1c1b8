/**
 * A home: the directory that holds one stack's data, logs, addresses and the record of its processes. One process owns a home at a
 * time; everything that it starts is recorded before it is used, so that whoever comes after a SIGKILL can clear exactly that.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { FerryError } from '../kernel/errors.ts';
import { endProcess, identifyProcess, isStillRunning, type ProcessIdentity, sendSignal } from './process-identity.ts';

export interface RecordedProcess extends ProcessIdentity {
  /** What it is: `postgres`, `kafka`, `registry`, or a role process. */
  readonly name: string;
}

export interface HomeOwner extends ProcessIdentity {
  /** It was left running in the background, for whoever comes next. */
  readonly leftBehind?: boolean;
}

/** How to reach a stack; kept after it ended, so that the next start prefers the same ports. */
export interface StackAddresses {
  readonly postgresUrl?: string;
  /** Of participants that have a database of their own in this stack's Postgres, by name; left out: all is in one. */
  readonly ownDatabaseUrls?: Readonly<Record<string, string>>;
  readonly kafkaBrokers?: string;
  readonly registryUrl?: string;
  readonly paymentProviderUrl?: string;
  readonly httpUrl?: string;
}

const PRIVATE_FILE = 0o600;

/** What a stack keeps in its home, beside what tells who owns it. */
const DATA = [
  'postgres',
  'kafka',
  'registry',
  'charges.jsonl',
  'logs',
  'addresses.json',
  'dev.env',
  'postgres.secret',
  'development-key.secret',
];

export class Home {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = resolve(directory);
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** The process that runs this home's stack, if it is alive. */
  owner(): HomeOwner | undefined {
    const owner = readJson<HomeOwner>(this.path('owner.json'));
    return owner !== undefined && isStillRunning(owner) ? owner : undefined;
  }

  /** Whether its owner died without giving it up, so that processes of it may be left. */
  get abandoned(): boolean {
    return existsSync(this.path('owner.json')) && this.owner() === undefined;
  }

  /**
   * Makes this process the owner and ends what a dead owner left behind. Throws ALREADY_RUNNING while another owner is alive, and
   * HOME_UNUSABLE if the directory cannot be written.
   */
  async claim({ leftBehind = false } = {}): Promise<void> {
    try {
      mkdirSync(this.path('logs'), { recursive: true });
    } catch (cause) {
      throw new FerryError('HOME_UNUSABLE', `${this.directory} cannot be written`, { cause });
    }
    const self = identifyProcess(process.pid);
    if (self === undefined) throw new Error('this process cannot find its own start time');
    const draft = this.path(`owner.${process.pid}.tmp`);
    writeJson(draft, { ...self, leftBehind } satisfies HomeOwner);
    try {
      this.#takeOwnership(draft);
    } finally {
      rmSync(draft, { force: true });
    }
    await this.clearRecorded();
  }

  /** `link` fails if the name exists, so that of two that start at once exactly one becomes the owner. */
  #takeOwnership(draft: string): void {
    const file = this.path('owner.json');
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        linkSync(draft, file);
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const owner = this.owner();
      if (owner !== undefined) {
        if (owner.pid === process.pid) return;
        throw new FerryError('ALREADY_RUNNING', `${this.directory} is in use by process ${owner.pid}`, {
          details: { pid: owner.pid },
        });
      }
      const aside = this.path(`owner.${randomBytes(4).toString('hex')}.stale`);
      try {
        renameSync(file, aside);
        rmSync(aside, { force: true });
      } catch {
        // somebody else moved it first; the next round finds out who owns the home now
      }
    }
    throw new FerryError('HOME_UNUSABLE', `${this.directory} could not be claimed`);
  }

  /** Gives the home up; only its owner may. */
  release(): void {
    if (this.owner()?.pid === process.pid) rmSync(this.path('owner.json'), { force: true });
  }

  processes(): RecordedProcess[] {
    return readJson<RecordedProcess[]>(this.path('processes.json')) ?? [];
  }

  record(started: RecordedProcess): void {
    const others = this.processes().filter((known) => known.pid !== started.pid && isStillRunning(known));
    writeJson(this.path('processes.json'), [...others, started]);
  }

  forget(pid: number): void {
    writeJson(
      this.path('processes.json'),
      this.processes().filter((known) => known.pid !== pid),
    );
  }

  /** Ends the recorded processes that still run: those that speak to the others first. */
  async clearRecorded(): Promise<RecordedProcess[]> {
    const left = this.processes().filter(isStillRunning);
    for (const name of ['role', 'registry', 'kafka', 'postgres']) {
      const group = left.filter((process) => (isPart(process.name) ? process.name : 'role') === name);
      await Promise.all(group.map((recorded) => endProcess(recorded, CLEARING_SIGNALS[name] ?? [])));
    }
    const survivors = left.filter(isStillRunning);
    writeJson(this.path('processes.json'), survivors);
    if (survivors.length > 0) {
      const names = survivors.map((process) => `${process.name} (pid ${process.pid})`).join(', ');
      throw new FerryError('HOME_UNUSABLE', `${names} of an earlier run could not be ended`);
    }
    return left;
  }

  /** Ends everything recorded at once, without waiting; Postgres by its immediate shutdown. */
  killRecorded(): void {
    for (const process of this.processes().filter(isStillRunning)) {
      sendSignal(process.pid, process.name === 'postgres' ? 'SIGQUIT' : 'SIGKILL');
    }
  }

  addresses(): StackAddresses {
    return readJson<StackAddresses>(this.path('addresses.json')) ?? {};
  }

  saveAddresses(addresses: StackAddresses): void {
    writeJson(this.path('addresses.json'), addresses);
  }

  /** A generated secret of this home, made on first use and kept readable by its owner only. */
  secret(name: string): string {
    const file = this.path(`${name}.secret`);
    try {
      writeFileSync(file, randomBytes(24).toString('base64url'), { mode: PRIVATE_FILE, flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    return readFileSync(file, 'utf8').trim();
  }

  /**
   * Deletes data, logs and addresses: everything but the claim itself. It is out of the way at once; giving the space back goes on in the
   * background, and what a crash leaves of it is deleted the next time.
   */
  deleteData(): void {
    const deleted = this.path('deleted');
    const aside = join(deleted, randomUUID());
    mkdirSync(aside, { recursive: true });
    for (const name of DATA) if (existsSync(this.path(name))) renameSync(this.path(name), join(aside, name));
    mkdirSync(this.path('logs'));
    void rm(deleted, { recursive: true, force: true }).catch(() => {});
  }
}

/**
 * What ends each kind of process for good: Postgres by its fast, then its immediate shutdown (a SIGKILL of the postmaster would leave
 * its children to find out by themselves); the rest may be killed.
 */
const CLEARING_SIGNALS: Readonly<Record<string, ReadonlyArray<readonly [NodeJS.Signals, number]>>> = {
  role: [
    ['SIGTERM', 2_000],
    ['SIGKILL', 2_000],
  ],
  registry: [['SIGKILL', 2_000]],
  kafka: [
    ['SIGTERM', 5_000],
    ['SIGKILL', 2_000],
  ],
  postgres: [
    ['SIGINT', 5_000],
    ['SIGQUIT', 5_000],
    ['SIGKILL', 2_000],
  ],
};

function isPart(name: string): boolean {
  return name !== 'role' && name in CLEARING_SIGNALS;
}

function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch {
    return undefined; // missing, or half written by a process that was killed before its rename
  }
}

/** Whole or not at all: written aside, then renamed. Private, because addresses hold a password. */
function writeJson(file: string, value: unknown): void {
  const draft = `${file}.${process.pid}.${randomBytes(3).toString('hex')}`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: PRIVATE_FILE });
  try {
    renameSync(draft, file);
  } catch (error) {
    unlinkSync(draft);
    throw error;
  }
}
