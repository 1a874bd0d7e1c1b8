/** From which checkpoints a relay may go on: every refusal, and next to each what is just acceptable. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ServerIdentity } from '../../../src/events/change-stream.ts';
import type { FerryError } from '../../../src/kernel/errors.ts';
import type { Checkpoint, CheckpointIdentity } from '../../../src/relay/checkpoint.ts';
import { compare, compareIdentity, isSuperseded, type RelayLedger } from '../../../src/relay/compare.ts';
import { checkpoint, eventId, lsn } from '../../support/relay-fixtures.ts';

const OURS: CheckpointIdentity = {
  relay: 'main',
  systemId: '7580000000000000001',
  database: 'shop',
  slot: 'ferry_main',
  epoch: 2,
};

const identities: ReadonlyArray<readonly [what: string, changes: Partial<Checkpoint>, code: string | null]> = [
  ['our own', {}, null],
  ['another relay’s', { relay: 'other' }, 'RELAY_IDENTITY_MISMATCH'],
  ['of another server', { systemId: '7580000000000000002' }, 'RELAY_IDENTITY_MISMATCH'],
  ['of another database', { database: 'shop2' }, 'RELAY_IDENTITY_MISMATCH'],
  ['of another slot', { slot: 'ferry_other' }, 'RELAY_IDENTITY_MISMATCH'],
  ['of a later epoch', { epoch: 3 }, 'RELAY_HISTORY_DIVERGED'],
  ['of an earlier epoch', { epoch: 1 }, 'RELAY_CHECKPOINT_MISSING'],
];

describe('a checkpoint', () => {
  for (const [what, changes, code] of identities) {
    test(`${what}: ${code ?? 'accepted'}`, () => {
      const decide = () => compareIdentity(checkpoint({ epoch: 2, ...changes }), OURS);
      if (code === null) decide();
      else assert.throws(decide, { code });
    });
  }
});

test('only the epoch that is being made puts an earlier checkpoint of this relay out of force', () => {
  const creating = { state: 'creating' } as const;
  assert.equal(isSuperseded(checkpoint({ epoch: 1, systemId: 'gone', slot: 'old' }), OURS, creating), true);
  assert.equal(isSuperseded(checkpoint({ epoch: 1 }), OURS, { state: 'live' }), false);
  assert.equal(isSuperseded(checkpoint({ epoch: 2 }), OURS, creating), false);
  assert.equal(isSuperseded(checkpoint({ epoch: 1, relay: 'other' }), OURS, creating), false);
});

// --- positions and histories

interface Case {
  readonly what: string;
  readonly checkpoint?: Partial<Checkpoint>;
  readonly server?: Partial<ServerIdentity>;
  readonly ledger?: Partial<RelayLedger>;
  readonly code: string | null;
}

const PARTIAL = { commitLsn: lsn(1_500), xid: 7, seq: 3 };
const leftAt = (at: number) => ({ timeline: 2, switchPoints: new Map([[1, lsn(at)]]) });

const cases: readonly Case[] = [
  { what: 'between the slot and the end of WAL', code: null },
  { what: 'exactly where the slot is', ledger: { confirmedFlushLsn: lsn(1_000) }, code: null },
  { what: 'exactly at the end of WAL', server: { serverLsn: lsn(1_000) }, code: null },
  { what: 'beyond the end of WAL', server: { serverLsn: lsn(999) }, code: 'RELAY_CHECKPOINT_AHEAD' },
  { what: 'with a part whose commit is in the WAL', checkpoint: { partial: PARTIAL }, code: null },
  {
    what: 'with a part whose commit the WAL has lost',
    checkpoint: { partial: PARTIAL },
    server: { serverLsn: lsn(1_500) },
    code: 'RELAY_CHECKPOINT_AHEAD',
  },
  { what: 'before the slot', ledger: { confirmedFlushLsn: lsn(1_001) }, code: 'RELAY_SLOT_RECREATED' },
  { what: 'of as many runs as the database knows', checkpoint: { run: 5n }, ledger: { run: 5n }, code: null },
  { what: 'of a run to come', checkpoint: { run: 6n }, ledger: { run: 5n }, code: 'RELAY_HISTORY_DIVERGED' },
  { what: 'whose last event is in the outbox', ledger: { lastEventPresent: true }, code: null },
  { what: 'whose last event is gone', ledger: { lastEventPresent: false }, code: 'RELAY_HISTORY_DIVERGED' },
  { what: 'of a timeline that was left later', server: leftAt(1_001), code: null },
  { what: 'of a timeline that was left there', server: leftAt(1_000), code: null },
  { what: 'of a timeline that was left before', server: leftAt(999), code: 'RELAY_HISTORY_DIVERGED' },
  {
    what: 'with a part that the timeline still holds',
    checkpoint: { partial: PARTIAL },
    server: leftAt(1_501),
    code: null,
  },
  {
    what: 'with a part beyond where its timeline was left',
    checkpoint: { partial: PARTIAL },
    server: leftAt(1_500),
    code: 'RELAY_HISTORY_DIVERGED',
  },
  {
    what: 'of a timeline that the server never was on',
    server: { timeline: 3, switchPoints: new Map([[2, lsn(9_000)]]) },
    code: 'RELAY_HISTORY_DIVERGED',
  },
  {
    what: 'of a timeline to come',
    checkpoint: { timeline: 2 },
    server: { timeline: 1 },
    code: 'RELAY_HISTORY_DIVERGED',
  },
];

describe('a checkpoint', () => {
  for (const { what, code, ...given } of cases) {
    test(`${what}: ${code ?? 'accepted'}`, () => {
      const found = checkpoint({ lastEventId: eventId(1), commitTimeMs: 1_767_323_045_678, ...given.checkpoint });
      const server: ServerIdentity = {
        ...{ systemId: found.systemId, timeline: 1, database: 'shop', serverLsn: lsn(2_000), switchPoints: new Map() },
        ...given.server,
      };
      const ledger = { confirmedFlushLsn: lsn(900), run: 9n, lastEventPresent: true, ...given.ledger };
      const decide = () => compare(found, server, ledger);
      if (code === null) decide();
      else assert.throws(decide, (error: FerryError) => error.code === code && isExplained(error));
    });
  }
});

/** A refusal names where the checkpoint stands, when that was and its last event: where an operator begins to look. */
function isExplained({ details }: FerryError): boolean {
  assert.deepEqual(details, {
    checkpointLsn: '0/3E8',
    checkpointCommitTime: '2026-01-02T03:04:05.678Z',
    lastEventId: eventId(1),
    epoch: 1,
  });
  return true;
}
