/** The intake: which changes are new after a restart, where each stands, and how much may wait. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Change } from '../../../src/events/change-stream.ts';
import { controlPrefix, sealControl } from '../../../src/events/control-message.ts';
import type { FerryError } from '../../../src/kernel/errors.ts';
import type { Checkpoint } from '../../../src/relay/checkpoint.ts';
import { Intake, type IntakeOptions, type Item } from '../../../src/relay/intake.ts';
import { CONTROL_KEY, controlGate, eventId, lsn, outboxEvent } from '../../support/relay-fixtures.ts';

const PREFIX = 'ferry:main:heartbeat';
const NONCE = 'b4c1e6f2-6f0e-4e8f-9b43-3b9e1d5a7c10';

type Start = Pick<Checkpoint, 'endLsn' | 'partial'>;

function intakeAt(start: Start, options: Partial<IntakeOptions> = {}) {
  const told: string[] = [];
  const refusals: FerryError[] = [];
  const intake = new Intake(start, {
    maxBytes: 1_000_000,
    heartbeatPrefix: PREFIX,
    controls: controlGate,
    pause: () => told.push('pause'),
    resume: () => told.push('resume'),
    onEvent: () => {},
    onItem: () => {},
    onKeepalive: (at, reply) => told.push(`keepalive ${at}${reply ? '?' : ''}`),
    onIgnored: (what) => told.push(what),
    onRefusal: (error) => refusals.push(error),
    ...options,
  });
  return { intake, told, refusals };
}

const FROM_1000: Start = { endLsn: lsn(1_000), partial: null };

const event = (n: number, bytes = 10): Change => ({ kind: 'event', event: outboxEvent(n), bytes });
const message = (prefix: string, content = NONCE): Change => ({
  kind: 'message',
  prefix,
  content: Buffer.from(content),
});

/** A transaction whose commit record is 8 bytes long. */
function transaction(commitLsn: number, changes: readonly Change[], xid = commitLsn): Change[] {
  const at = { commitLsn: lsn(commitLsn), commitTimeMs: commitLsn };
  return [{ kind: 'begin', xid, ...at }, ...changes, { kind: 'commit', endLsn: lsn(commitLsn + 8), ...at }];
}

function feed(intake: Intake, ...changes: readonly Change[]): void {
  for (const change of changes) intake.onChange(change);
}

function drain(intake: Intake): Item[] {
  const items: Item[] = [];
  for (let item = intake.shift(); item !== undefined; item = intake.shift()) items.push(item);
  return items;
}

/** `begin 1000, 1@1, end 1008` */
function sketch(items: readonly Item[]): string {
  return items.map(sketchOf).join(', ');
}

function sketchOf(item: Item): string {
  switch (item.kind) {
    case 'begin':
      return `begin ${item.commitLsn}`;
    case 'event':
      return `${item.event.seq}@${item.position.seq}`;
    case 'malformed':
      return `malformed@${item.position.seq}`;
    case 'control':
      return `${item.control} ${item.body}@${item.position.seq}`;
    case 'end':
      return `end ${item.endLsn}`;
  }
}

describe('what is new', () => {
  test('a transaction that ended at or before the checkpoint is dropped; one that begins to commit there is not', () => {
    const { intake } = intakeAt(FROM_1000);
    feed(intake, ...transaction(900, [event(1)]), ...transaction(992, [event(2)]), ...transaction(1_000, [event(3)]));
    assert.equal(sketch(drain(intake)), 'begin 1000, 3@1, end 1008');
  });

  test('seq counts every insert and message, whatever is done with it', () => {
    const { intake } = intakeAt(FROM_1000);
    const foreign: Change = { kind: 'ignored', what: 'insert into public.t', as: 'insert', countsInSeq: true };
    const truncate: Change = { kind: 'ignored', what: 'message T', as: 'truncate', countsInSeq: false };
    const refusal = { code: 'EVENT_MALFORMED', message: 'm', path: null } as const;
    const malformed: Change = {
      ...{ kind: 'malformed', id: eventId(9), aggregateType: 'order', aggregateId: 'o', refusal },
      original: Buffer.alloc(3),
    };
    const changes = [message('other'), event(1), foreign, truncate, malformed, message(PREFIX), event(2)];
    feed(intake, ...transaction(2_000, changes));
    assert.equal(sketch(drain(intake)), 'begin 2000, 1@2, malformed@4, 2@6, end 2008');
  });

  test('of a split transaction the part that is out is skipped, by position and not by event', () => {
    const partial = { commitLsn: lsn(2_000), xid: 2_000, seq: 3 };
    const { intake, refusals } = intakeAt({ endLsn: lsn(1_000), partial });
    const changes = [event(1), message('other'), event(2), event(3), event(4)];
    feed(intake, ...transaction(990, [event(9)]), ...transaction(2_000, changes), ...transaction(3_000, [event(5)]));
    assert.equal(sketch(drain(intake)), 'begin 2000, 3@4, 4@5, end 2008, begin 3000, 5@1, end 3008');
    assert.deepEqual(refusals, []);
  });

  for (const [what, next] of [
    ['another transaction comes', transaction(3_000, [event(1)])],
    ['another one comes that was committed before', transaction(1_500, [event(1)])],
    ['another one has its place', transaction(2_000, [event(1)], 77)],
  ] as const) {
    test(`where ${what} instead of the rest of a split one, nothing is taken any more`, () => {
      const partial = { commitLsn: lsn(2_000), xid: 2_000, seq: 3 };
      const { intake, refusals, told } = intakeAt({ endLsn: lsn(1_000), partial });
      feed(intake, ...next, ...transaction(4_000, [event(2)]));
      intake.onKeepalive(lsn(5_000), true);
      assert.equal(sketch(drain(intake)), '');
      assert.deepEqual(
        refusals.map(({ code }) => code),
        ['RELAY_HISTORY_DIVERGED'],
      );
      assert.deepEqual(told, []);
    });
  }

  test('each row that arrives is told, new or not', () => {
    let rows = 0;
    const { intake } = intakeAt(FROM_1000, { onEvent: () => rows++ });
    feed(intake, ...transaction(900, [event(1)]), ...transaction(2_000, [event(2)]));
    assert.equal(rows, 2);
  });
});

describe('heartbeats', () => {
  function heartbeatsOf(changes: readonly Change[], commitLsn = 2_000): readonly string[] {
    const { intake } = intakeAt(FROM_1000);
    feed(intake, ...transaction(commitLsn, changes));
    return drain(intake).flatMap((item) => (item.kind === 'end' ? item.heartbeats : []));
  }

  test('are found by our prefix', () => {
    assert.deepEqual(heartbeatsOf([message(PREFIX)]), [NONCE]);
    assert.deepEqual(heartbeatsOf([message('ferry:other:heartbeat'), message(`${PREFIX}x`)]), []);
  });

  test('of transactions that are out already say nothing', () => {
    assert.deepEqual(heartbeatsOf([message(PREFIX)], 900), []);
  });

  test('that others emit under our prefix cannot fill the memory', () => {
    assert.deepEqual(heartbeatsOf([message(PREFIX, 'x'.repeat(1_000_000)), message(PREFIX, '')]), []);
    assert.equal(heartbeatsOf(Array.from({ length: 1_000 }, () => message(PREFIX))).length, 1);
  });
});

describe('control messages', () => {
  const RELEASE = controlPrefix('main', 'release');
  const sealed = (body: string, prefix = RELEASE, key = CONTROL_KEY): Change => ({
    kind: 'message',
    prefix,
    content: sealControl(key, prefix, body),
  });

  test('are handed on at their place among the rows', () => {
    const { intake } = intakeAt(FROM_1000);
    const changes = [event(1), sealed('a'), sealed('b', controlPrefix('main', 'replay')), event(2)];
    feed(intake, ...transaction(2_000, changes));
    assert.equal(sketch(drain(intake)), 'begin 2000, 1@1, release a@2, replay b@3, 2@4, end 2008');
  });

  test('that are forged, of another relay, or of no known kind only count', () => {
    const { intake } = intakeAt(FROM_1000);
    const moved = { ...sealed('a'), prefix: controlPrefix('main', 'replay') };
    const others = [sealed('a', controlPrefix('other', 'release')), sealed('a', 'ferry:main:unheard')];
    const forged = [sealed('a', RELEASE, Buffer.alloc(32, 8)), message(RELEASE, ''), message(RELEASE, NONCE)];
    feed(intake, ...transaction(2_000, [...forged, moved, ...others, event(1)]));
    assert.equal(sketch(drain(intake)), 'begin 2000, 1@7, end 2008');
  });

  test('that are out already are dropped, and their bytes count in the buffer', () => {
    const partial = { commitLsn: lsn(2_000), xid: 2_000, seq: 1 };
    const { intake, told } = intakeAt({ endLsn: lsn(1_000), partial }, { maxBytes: 1_000 });
    feed(intake, ...transaction(2_000, [sealed('a'), sealed('b')]));
    assert.equal(sketch(drain(intake)), 'begin 2000, release b@2, end 2008');
    feed(intake, ...transaction(3_000, [sealed('x'.repeat(2_000))]));
    assert.deepEqual(told, ['pause']);
  });
});

describe('bounds', () => {
  test('the socket is paused above the bound, once, and resumed below half of it', () => {
    const { intake, told } = intakeAt(FROM_1000, { maxBytes: 1_000 });
    feed(intake, ...transaction(2_000, [event(1, 500), event(2, 500), event(3, 500)]));
    assert.deepEqual(told, ['pause']);
    assert.equal(intake.paused, true);
    assert.ok(intake.fillRatio > 1);
    drain(intake);
    assert.deepEqual(told, ['pause', 'resume']);
    assert.equal(intake.paused, false);
    assert.equal(intake.fillRatio, 0);
  });

  test('transactions without events fill it too', () => {
    const { intake, told } = intakeAt(FROM_1000, { maxBytes: 10_000 });
    for (let i = 0; i < 100; i++) feed(intake, ...transaction(2_000 + i * 10, []));
    assert.deepEqual(told, ['pause']);
  });

  test('thousands of items come out as they went in', () => {
    const { intake } = intakeAt(FROM_1000);
    const changes = Array.from({ length: 10_000 }, (_, i) => event(i));
    feed(intake, ...transaction(2_000, changes.slice(0, 6_000)));
    const first = Array.from({ length: 5_000 }, () => intake.shift()); // past where the queue moves its items up
    feed(intake, ...transaction(3_000, changes.slice(6_000)));
    const items = [...first, ...drain(intake)];
    const seqs = items.flatMap((item) => (item?.kind === 'event' ? [Number(item.event.seq)] : []));
    assert.deepEqual(
      seqs,
      changes.map((_, i) => i),
    );
  });
});

test('idle means that nothing waits and no transaction is half received', () => {
  const { intake } = intakeAt(FROM_1000);
  assert.equal(intake.idle, true);
  const [begin, row, commit] = transaction(2_000, [event(1)]);
  for (const change of [begin, row]) if (change !== undefined) intake.onChange(change);
  drain(intake);
  assert.equal(intake.idle, false);
  if (commit !== undefined) intake.onChange(commit);
  assert.equal(intake.idle, false);
  assert.equal(intake.oldestCommitTimeMs, 2_000);
  drain(intake);
  assert.equal(intake.idle, true);
  assert.equal(intake.oldestCommitTimeMs, null);
});

test('changes out of place are errors', () => {
  const { intake } = intakeAt(FROM_1000);
  assert.throws(() => intake.onChange(event(1)), /outside of a transaction/);
  assert.throws(() => feed(intake, ...transaction(2_000, []).slice(1)), /outside of a transaction/);
});

test('keepalives and ignored changes are passed on', () => {
  const { intake, told } = intakeAt(FROM_1000);
  intake.onKeepalive(lsn(5), true);
  intake.onKeepalive(lsn(6), false);
  feed(intake, { kind: 'ignored', what: 'message T', as: 'truncate', countsInSeq: false });
  assert.deepEqual(told, ['keepalive 5?', 'keepalive 6', 'message T']);
});
