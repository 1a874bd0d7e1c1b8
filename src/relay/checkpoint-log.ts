/** Finds the newest checkpoint in its topic: for the relay at its start, and for whoever looks on. */
import type { LogReader } from '../kafka/log-reader.ts';
import { type Checkpoint, decodeCheckpoint } from './checkpoint.ts';

const FIRST_WINDOW = 100n;

/**
 * Reads backwards from the end, in windows that double, because compaction leaves the topic long for a while. Null if it holds none.
 * Rejects with a DeadlineError where nothing could be read for `timeoutMs`: never "no checkpoint".
 */
export async function readNewestCheckpoint(
  log: Pick<LogReader, 'ranges' | 'read'>,
  topic: string,
  until: 'high-watermark' | 'last-stable',
  timeoutMs: number,
): Promise<Checkpoint | null> {
  const [whole] = await log.ranges(topic, until);
  if (whole === undefined) throw new Error(`topic ${topic} has no partition`);
  for (let window = FIRST_WINDOW; ; window *= 2n) {
    const from = whole.to - window > whole.from ? whole.to - window : whole.from;
    let newest: Buffer | null = null;
    for await (const record of log.read({ ...whole, from }, timeoutMs)) {
      if (record.value !== null) newest = record.value;
    }
    if (newest !== null) return decodeCheckpoint(newest);
    if (from === whole.from) return null;
  }
}
