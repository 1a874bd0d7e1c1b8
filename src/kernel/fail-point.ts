/**
 * Named fail points: places where a chaos test ends the process as by SIGKILL, or lets an operation fail, at exactly that moment.
 * Armed only through FERRY_FAIL_POINT, read once by the composition root; unarmed, passing one is one call that does nothing. The
 * idea is supabase/etl's `failpoints.rs`.
 */
export const RELAY_FAIL_POINTS = [
  /** An outbox row was received. */
  'after-receive',
  /** A batch is complete and nothing of it was sent. */
  'after-encode',
  /** Its records are in Kafka, in an open transaction. */
  'after-send',
  /** EndTxn was answered: the transaction is committed, and nobody knows yet. */
  'after-end-txn',
  /** The commit is known and not yet confirmed to Postgres. */
  'after-commit-before-confirm',
  /** The producer is fenced in and the checkpoint not yet read. */
  'while-reading-checkpoint',
  /** A part of a Postgres transaction was committed to Kafka. */
  'inside-split-transaction',
  /** Of a key that is being released, a part was committed to Kafka; the rest is still parked. */
  'inside-key-release',
  /** What was released or discarded is committed to Kafka, and the database still calls it dead. */
  'after-release-before-notes',
] as const;

export const CONSUMER_FAIL_POINTS = [
  /** The events are entered into the inbox, and no handler was called. */
  'before-handler',
  /** The handlers are done, and nothing is committed. */
  'after-handler',
  /** Their effect is committed, and no offset. */
  'after-commit-before-offset',
  /** Dead letters are in their topic, and the inbox does not know it. */
  'after-dead-letter-before-inbox',
  /** An event of a released key was applied; others wait, or the key's release is still to be noted. */
  'inside-release',
  /** A dead letter that was sent back was tried, and nobody has noted how it ended but the transaction of its effect. */
  'after-retry',
] as const;

export const DEAD_LETTER_FAIL_POINTS = [
  /** Letters are entered and their topic's position is moved; nothing is committed. */
  'before-letters-commit',
  /** That is committed, and nothing more was done. */
  'after-letters-commit',
  /** The owner of a letter was asked to take it up, and the letter does not say so yet. */
  'after-owner-asked',
] as const;

export const REPLAY_FAIL_POINTS = [
  /** The messages of a page are emitted and its cursor is moved, and neither is committed. */
  'before-replay-commit',
  /** They are committed, and nobody was told. */
  'after-replay-commit',
] as const;

export const RETENTION_FAIL_POINTS = [
  /** A day is noted to be taken out of the outbox, and still attached. */
  'retention-noted',
  /** It is detached, and nobody knows since when. */
  'retention-detached',
  /** Everything in it is known to be published, and it is not dropped. */
  'retention-published',
] as const;

export const FAIL_POINTS = [
  ...RELAY_FAIL_POINTS,
  ...CONSUMER_FAIL_POINTS,
  ...DEAD_LETTER_FAIL_POINTS,
  ...REPLAY_FAIL_POINTS,
  ...RETENTION_FAIL_POINTS,
] as const;
export type FailPointName = (typeof FAIL_POINTS)[number];

/** Called at the named place; may end the process or throw. */
export type FailPoint = (name: FailPointName) => void;

export const noFailPoints: FailPoint = () => {};

/**
 * Parses `name[:nth[:kill|throw]]`: at the nth passing (1 by default) the process is killed (by default) or an error is thrown, which
 * is how a lost answer looks. Throws a TypeError on anything else.
 */
export function armFailPoint(spec: string | undefined): FailPoint {
  if (spec === undefined) return noFailPoints;
  const [name, nth = '1', action = 'kill'] = spec.split(':');
  const known = FAIL_POINTS.find((point) => point === name);
  if (known === undefined || !/^[1-9]\d*$/.test(nth) || (action !== 'kill' && action !== 'throw')) {
    throw new TypeError(`FERRY_FAIL_POINT takes name[:nth[:kill|throw]] with a name of ${FAIL_POINTS.join(', ')}`);
  }
  let left = Number(nth);
  return (passed) => {
    if (passed !== known) return;
    left -= 1;
    if (left !== 0) return;
    if (action === 'kill') process.kill(process.pid, 'SIGKILL');
    throw new Error(`fail point ${known}`);
  };
}
