/** A consumer group seen from outside: how far it has come, and members that come and go in a storm. */
import type { Config } from '../../src/config/variables.ts';
import { kafkaOptions } from '../../src/kafka/client.ts';
import { GroupProgress } from '../../src/kafka/group-progress.ts';
import { sleep } from '../../src/kernel/deadline.ts';
import type { FerryProcess } from './processes.ts';
import type { Random } from './random.ts';
import { quiet } from './relay-fixtures.ts';
import { waitUntil } from './signals.ts';

const CONSUME_DEADLINE_MS = 180_000;
/** A storm ends then, whatever was done in it: on a busy machine members may leave faster than they come. */
const STORM_MAX_MS = 60_000;

/** Waits until the group has committed every record that the topics have now: its lag is zero. */
export async function untilConsumed(
  config: Config,
  groupId: string,
  topics: readonly string[],
  deadlineMs = CONSUME_DEADLINE_MS,
): Promise<void> {
  const progress = await GroupProgress.open({ kafka: kafkaOptions(config, 'group', quiet.logger), groupId, topics });
  try {
    const ends = await progress.ends();
    const reached = async () => progress.hasReached(ends, await progress.committed());
    await waitUntil(`the lag of ${groupId} being zero`, reached, { deadlineMs });
  } finally {
    await progress.close();
  }
}

export interface StormReport {
  readonly kills: number;
  readonly stops: number;
  readonly starts: number;
}

/**
 * Starts all members; then every `everyMs` one leaves, by SIGKILL or SIGTERM, or one that is away comes back, until the signal fires. One is
 * always left running, and at the end all are.
 */
export async function storm(
  members: readonly FerryProcess[],
  random: Random,
  everyMs: number,
  signal: AbortSignal,
): Promise<StormReport> {
  const report = { kills: 0, stops: 0, starts: 0 };
  const leaving = new Map<FerryProcess, Promise<unknown>>();
  for (const member of members) member.start();
  while (await sleep(everyMs, signal)) {
    const running = members.filter((member) => member.running && !leaving.has(member));
    const away = members.find((member) => !member.running);
    if (away !== undefined && (running.length < 2 || random.chance(0.5))) {
      away.start();
      report.starts += 1;
    } else if (running.length > 1) {
      const member = random.pick(running);
      const killed = random.chance(0.5);
      report[killed ? 'kills' : 'stops'] += 1;
      leaving.set(
        member,
        (killed ? member.kill() : member.stop()).finally(() => leaving.delete(member)),
      );
    }
  }
  await Promise.all(leaving.values());
  for (const member of members) if (!member.running) member.start();
  return report;
}

/** A storm as above that goes on until `isEnough`, or for a minute. */
export async function stormUntil(
  isEnough: () => Promise<boolean>,
  members: readonly FerryProcess[],
  random: Random,
  everyMs: number,
): Promise<StormReport> {
  const over = new AbortController();
  const storming = storm(members, random, everyMs, over.signal);
  await waitUntil('enough being done in the storm', isEnough, { deadlineMs: STORM_MAX_MS }).catch(() => {});
  over.abort();
  return storming;
}
