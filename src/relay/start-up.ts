/**
 * The start-up order from holding the slot to a checkpoint that may be gone on from (docs/adr/0004): prove that the slot is ours, fence,
 * read the checkpoint, compare, count the run. Every step depends on the one before it: in another order a zombie fences the living, or a
 * checkpoint or notes are read that an older relay still changes.
 */
import { randomUUID } from 'node:crypto';
import type { ChangeStream } from '../events/change-stream.ts';
import { sleep } from '../kernel/deadline.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Lsn } from '../kernel/lsn.ts';
import type { Queryable } from '../postgres/connection.ts';
import { type Checkpoint, type CheckpointIdentity, topicsEver } from './checkpoint.ts';
import { compare, compareIdentity, isSuperseded } from './compare.ts';
import { correctByCheckpoint } from './dead-letter-notes.ts';
import type { ReadyEpoch } from './epoch.ts';
import { Heartbeat } from './heartbeat.ts';
import { countRun, emitHeartbeat, isEventPresent, readRun, readSystemIdentifier } from './ledger.ts';
import type { Sink } from './sink.ts';
import { readSlot } from './slot.ts';

const VISIBLE_WITHIN_MS = 1_000;
const LOOK_EVERY_MS = 50;

/** Thrown when another relay took the slot between two steps of the start. */
export class SlotLostError extends Error {
  override readonly name = 'SlotLostError';
}

export interface HeldSlot {
  readonly slot: string;
  readonly control: Queryable;
  /** Holds the slot, paused. */
  readonly stream: ChangeStream;
}

export interface StartUp extends HeldSlot {
  readonly name: string;
  /** The slot's, since the stream holds it. */
  readonly confirmedFlushLsn: Lsn;
  readonly sink: Sink;
  readonly epoch: ReadyEpoch;
}

/** Where the slot stands that is ours now. Rejects with SlotLostError if it is not. */
export async function readHeldSlot(held: HeldSlot): Promise<Lsn> {
  if ((await readSystemIdentifier(held.control)) !== held.stream.identity.systemId) {
    throw new FerryError('RELAY_CONFIGURATION', 'DATABASE_URL leads to two different servers (a load balancer?)');
  }
  return proveSlot(held);
}

/** The checkpoint to go on from, of this run. Rejects with the refusal where there is one, with SlotLostError if the slot is gone. */
export async function agreeOnCheckpoint(start: StartUp): Promise<Checkpoint> {
  const { name, slot, control, stream, confirmedFlushLsn, sink, epoch } = start;
  const { timeline } = stream.identity;
  const ours = identityOf(start);
  const peeked = await sink.peek();
  if (peeked !== null && !isSuperseded(peeked, ours, epoch)) compareIdentity(peeked, ours);
  await sink.fence(() => proveSlot(start));
  const newest = await sink.readCheckpoint();
  const superseded = newest !== null && isSuperseded(newest, ours, epoch) ? newest : null;
  const found = superseded === null ? newest : null;
  if (found === null && epoch.state === 'live') {
    throw new FerryError(
      'RELAY_CHECKPOINT_MISSING',
      `the checkpoint topic holds nothing of relay ${name}, which is in epoch ${epoch.epoch}`,
    );
  }
  if (found !== null) {
    compareIdentity(found, ours);
    const { lastEventId } = found;
    const lastEventPresent = lastEventId === null ? null : await isPresentAtLast(control, name, lastEventId);
    compare(found, stream.identity, { confirmedFlushLsn, run: await readRun(control, name), lastEventPresent });
    await sink.pin(found.topics);
  }
  const run = await countRun(control, { relay: name, slot, walsenderPid: stream.processId });
  if (run === null) throw new SlotLostError(`slot ${slot} was taken before this run was counted`);
  if (found !== null) await correctByCheckpoint(control, { relay: name, run }, found);
  return { ...(found ?? firstCheckpoint(ours, epoch, superseded)), timeline, run };
}

/**
 * Whether the event is in the outbox. Slots send a commit that still waits for a synchronous standby, and until that has it nobody sees its
 * rows: so absence counts only after a commit of our own, which waits in the same queue behind it. Those that waited are let go in order,
 * but each becomes visible in its own time.
 */
async function isPresentAtLast(control: Queryable, relay: string, eventId: string): Promise<boolean> {
  if (await isEventPresent(control, eventId)) return true;
  await emitHeartbeat(control, Heartbeat.prefix(relay), randomUUID());
  for (let waited = 0; waited < VISIBLE_WITHIN_MS; waited += LOOK_EVERY_MS) {
    if (await isEventPresent(control, eventId)) return true;
    await sleep(LOOK_EVERY_MS);
  }
  return false;
}

function identityOf({ name, slot, stream, epoch }: StartUp): CheckpointIdentity {
  const { systemId, database } = stream.identity;
  return { relay: name, systemId, database, slot, epoch: epoch.epoch };
}

/** The slot must be ours at the moment of fencing: a relay that lost it and fenced would stop the one that has it. */
async function proveSlot({ control, slot, stream }: HeldSlot): Promise<Lsn> {
  const facts = await readSlot(control, slot);
  if (facts?.activePid !== stream.processId) {
    throw new SlotLostError(`slot ${slot} is held by ${facts?.activePid ?? 'nobody'}`);
  }
  return facts.confirmedFlushLsn;
}

function firstCheckpoint(
  ours: CheckpointIdentity,
  epoch: ReadyEpoch,
  superseded: Checkpoint | null,
): Omit<Checkpoint, 'timeline' | 'run'> {
  return {
    ...ours,
    endLsn: epoch.origin.consistentPoint,
    partial: null,
    backfill: { rowSeq: 0n, count: 0 },
    lastEventId: null,
    commitTimeMs: 0,
    topics: new Map(),
    formerTopics: superseded === null ? [] : topicsEver(superseded),
  };
}
