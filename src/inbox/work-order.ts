/** The order of a key within a piece of work: what is undone comes again, and nothing that stands behind it may be done before. */
import type { KeyQueue, QueuedRecord, Work } from './key-scheduler.ts';
import type { PoisonRecord } from './poison.ts';

/** The queue of a record of this work. */
export function queuesById({ queues }: Work): (queued: QueuedRecord) => KeyQueue {
  const byId = new Map(queues.map((queue) => [queue.id, queue]));
  return ({ keyId }) => {
    const queue = byId.get(keyId);
    if (queue === undefined) throw new Error('a record is not of the work that it came with');
    return queue;
  };
}

/** Whether another record of its key comes before it. */
export function standsBehind(queued: QueuedRecord, records: readonly QueuedRecord[]): boolean {
  return records.slice(0, records.indexOf(queued)).some(({ keyId }) => keyId === queued.keyId);
}

/**
 * What may be dead-lettered now, in the order of the work. What stands behind a record of its key that comes again does too, and is added to
 * `undone`: else it would overtake that one.
 */
export function withoutOvertaking(
  { records }: Work,
  poisoned: readonly PoisonRecord[],
  undone: QueuedRecord[],
): PoisonRecord[] {
  const poison = new Map(poisoned.map((item) => [item.queued, item]));
  const open = new Set(undone);
  const openKeys = new Set<string>();
  return records.flatMap((queued) => {
    if (open.has(queued)) openKeys.add(queued.keyId);
    const item = poison.get(queued);
    if (item === undefined) return [];
    if (!openKeys.has(queued.keyId)) return [item];
    undone.push(queued);
    return [];
  });
}

/** What comes again, in the order of the work. */
export function inOrderOf({ records }: Work, undone: readonly QueuedRecord[]): QueuedRecord[] {
  if (undone.length === 0) return [];
  const wanted = new Set(undone);
  return records.filter((queued) => wanted.has(queued));
}
