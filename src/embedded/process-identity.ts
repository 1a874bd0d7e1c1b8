/**
 * Which process a recorded pid means. A pid alone is reused by the system sooner or later, so that ending "pid 812" may end a
 * stranger; pid, boot and start time together name one process for good.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { platform } from 'node:os';
import { sleep } from '../kernel/deadline.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque: compared for equality, never parsed. */
  readonly startedAt: string;
}

/** The identity of a running process; undefined if there is none of that pid, or only its zombie. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const startedAt = platform() === 'linux' ? linuxStart(pid) : portableStart(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

export function isStillRunning(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startedAt === identity.startedAt;
}

/**
 * Sends the signals one after the other, each with its time in milliseconds to take effect, until the process is gone; one that is in
 * `sent` is only waited for, since many programs take a second SIGTERM as the order to end where they stand. Returns false if it
 * survived all of them. Does nothing to a process that merely has the same pid.
 */
export async function endProcess(
  identity: ProcessIdentity,
  signals: ReadonlyArray<readonly [signal: NodeJS.Signals, graceMs: number]>,
  sent = new Set<NodeJS.Signals>(),
): Promise<boolean> {
  for (const [signal, graceMs] of signals) {
    if (!isStillRunning(identity)) return true;
    if (!sent.has(signal)) sendSignal(identity.pid, signal);
    sent.add(signal);
    for (let waited = 0; waited < graceMs && isStillRunning(identity); waited += 20) await sleep(20);
  }
  return !isStillRunning(identity);
}

/** Signals a process; one that has just ended is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Field 22 of /proc/<pid>/stat (proc_pid_stat(5)): clock ticks from boot to start, so the boot belongs to it. */
function linuxStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name in parentheses may hold spaces
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot}:${fields[19]}`;
  } catch {
    return undefined;
  }
}

function portableStart(pid: number): string | undefined {
  try {
    const out = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    const [state = '', ...start] = out.split(/\s+/);
    return state === '' || state.startsWith('Z') ? undefined : start.join(' ');
  } catch {
    return undefined;
  }
}
