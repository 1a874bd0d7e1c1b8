/**
 * May this relay go on from this checkpoint on this database? A pure decision: everything it needs was read before, and the answer is
 * either nothing or a refusal that names what happened. That the checkpoint lies between the slot and the end of WAL is necessary and
 * not sufficient: after a fail-over to a standby that lagged, the new history soon overtakes the old LSN.
 */
import type { ServerIdentity } from '../events/change-stream.ts';
import { FerryError } from '../kernel/errors.ts';
import { formatLsn, type Lsn, maxLsn } from '../kernel/lsn.ts';
import type { Checkpoint, CheckpointIdentity } from './checkpoint.ts';
import type { Epoch } from './ledger.ts';

/** What the database knows about the relay. */
export interface RelayLedger {
  readonly confirmedFlushLsn: Lsn;
  /** `ferry.relay_run` before this start. */
  readonly run: bigint;
  /** Whether the checkpoint's last event is still in the outbox; null when it has none. */
  readonly lastEventPresent: boolean | null;
}

/**
 * Whether an operator has put the checkpoint out of force (`./ferry relay reset`): the epoch that is being made is a later one, and what
 * the old checkpoint says of positions is about a slot, perhaps a server, that is no more.
 */
export function isSuperseded(checkpoint: Checkpoint, ours: CheckpointIdentity, epoch: Pick<Epoch, 'state'>): boolean {
  return epoch.state === 'creating' && checkpoint.relay === ours.relay && checkpoint.epoch < ours.epoch;
}

/** Throws RELAY_IDENTITY_MISMATCH. Needs no producer: checked before one is made, so that a stranger is never fenced. */
export function compareIdentity(checkpoint: Checkpoint, ours: CheckpointIdentity): void {
  const fields = ['relay', 'systemId', 'database', 'slot'] as const;
  for (const field of fields) {
    if (checkpoint[field] !== ours[field]) {
      throw refuse(
        'RELAY_IDENTITY_MISMATCH',
        `the checkpoint of relay ${checkpoint.relay} belongs to ${field} ${checkpoint[field]}, and this is ${ours[field]}`,
        checkpoint,
      );
    }
  }
  if (checkpoint.epoch !== ours.epoch) {
    throw refuse(
      checkpoint.epoch > ours.epoch ? 'RELAY_HISTORY_DIVERGED' : 'RELAY_CHECKPOINT_MISSING',
      `the checkpoint is of epoch ${checkpoint.epoch} and the database is in epoch ${ours.epoch}`,
      checkpoint,
    );
  }
}

/** Throws the refusal that fits; returns when going on from the checkpoint can neither lose nor repeat. */
export function compare(checkpoint: Checkpoint, server: ServerIdentity, ledger: RelayLedger): void {
  compareTimeline(checkpoint, server);
  const published = publishedLsn(checkpoint);
  if (published > server.serverLsn) {
    throw refuse(
      'RELAY_CHECKPOINT_AHEAD',
      `published up to ${formatLsn(published)}, but the database ends at ${formatLsn(server.serverLsn)}: it went back`,
      checkpoint,
    );
  }
  if (ledger.confirmedFlushLsn > checkpoint.endLsn) {
    throw refuse(
      'RELAY_SLOT_RECREATED',
      `the slot starts at ${formatLsn(ledger.confirmedFlushLsn)}, after the checkpoint at ${formatLsn(checkpoint.endLsn)}: ` +
        'what was committed between them cannot be read from it',
      checkpoint,
    );
  }
  if (ledger.run < checkpoint.run) {
    throw refuse(
      'RELAY_HISTORY_DIVERGED',
      `the checkpoint was written by run ${checkpoint.run}, and the database knows only ${ledger.run} runs: it was restored from earlier`,
      checkpoint,
    );
  }
  if (ledger.lastEventPresent === false) {
    throw refuse(
      'RELAY_HISTORY_DIVERGED',
      `the last event published, ${checkpoint.lastEventId}, is not in the outbox: the database lost committed rows`,
      checkpoint,
    );
  }
}

/** Where history must reach for all that was published to be in it: of a split transaction that is into its commit record. */
function publishedLsn({ endLsn, partial }: Checkpoint): Lsn {
  return partial === null ? endLsn : maxLsn(endLsn, (partial.commitLsn + 1n) as Lsn);
}

function compareTimeline(checkpoint: Checkpoint, server: ServerIdentity): void {
  if (server.timeline === checkpoint.timeline) return;
  const left = server.switchPoints.get(checkpoint.timeline);
  const published = publishedLsn(checkpoint);
  if (left === undefined || published > left) {
    throw refuse(
      'RELAY_HISTORY_DIVERGED',
      left === undefined
        ? `the server is on timeline ${server.timeline}, whose history does not contain the checkpoint's timeline ${checkpoint.timeline}`
        : `published up to ${formatLsn(published)} on timeline ${checkpoint.timeline}, which this server left at ${formatLsn(left)}`,
      checkpoint,
    );
  }
}

type RefusalCode =
  | 'RELAY_IDENTITY_MISMATCH'
  | 'RELAY_CHECKPOINT_MISSING'
  | 'RELAY_CHECKPOINT_AHEAD'
  | 'RELAY_SLOT_RECREATED'
  | 'RELAY_HISTORY_DIVERGED';

function refuse(code: RefusalCode, message: string, checkpoint: Checkpoint): FerryError {
  return new FerryError(code, message, {
    details: {
      checkpointLsn: formatLsn(checkpoint.endLsn),
      checkpointCommitTime: new Date(checkpoint.commitTimeMs).toISOString(),
      lastEventId: checkpoint.lastEventId,
      epoch: checkpoint.epoch,
    },
  });
}
