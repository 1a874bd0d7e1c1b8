/** From pgoutput bytes to changes: in order, counted as the checkpoint counts, nothing handed out behind a failure. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Change, ChangeSink } from '../../../src/events/change-stream.ts';
import type { Lsn } from '../../../src/kernel/lsn.ts';
import { ChangeDecoder, Gate } from '../../../src/wal/change-stream.ts';
import { OUTBOX_COLUMNS, type OutboxRow, outboxRow, valuesOf } from '../../support/outbox-rows.ts';
import { begin, commit, insert, message, relation, tuple } from '../../support/pgoutput-bytes.ts';

const OUTBOX = 16_400;
const OTHER = 16_500;

/** Writes down what it is told. */
class Notes implements ChangeSink {
  readonly taken: unknown[] = [];

  onChange(change: Change): void {
    this.taken.push(change.kind === 'event' ? change.event.id : change);
  }

  onKeepalive(lsn: Lsn, replyRequested: boolean): void {
    this.taken.push(`keepalive ${lsn}${replyRequested ? '?' : ''}`);
  }
}

const OUTBOX_RELATION = relation(OUTBOX, 'ferry', 'outbox', OUTBOX_COLUMNS);
const rowInsert = (row: OutboxRow): Buffer => insert(OUTBOX, valuesOf(row));
const idOf = (n: number): string | null | undefined => outboxRow({}, n).id;

function decodeAll(...payloads: Buffer[]): unknown[] {
  const notes = new Notes();
  const decoder = new ChangeDecoder(notes);
  for (const payload of payloads) decoder.take(payload);
  return notes.taken;
}

describe('decoder', () => {
  test('a transaction: begin, its events in order, commit', () => {
    const rows = [rowInsert(outboxRow({}, 1)), rowInsert(outboxRow({}, 2))];
    assert.deepEqual(decodeAll(OUTBOX_RELATION, begin(100n, 5_000, 7), ...rows, commit(100n, 108n, 5_000)), [
      { kind: 'begin', commitLsn: 100n, xid: 7, commitTimeMs: 5_000 },
      idOf(1),
      idOf(2),
      { kind: 'commit', commitLsn: 100n, endLsn: 108n, commitTimeMs: 5_000 },
    ]);
  });

  test('an event tells its size in the WAL', () => {
    const changes: Change[] = [];
    const decoder = new ChangeDecoder({ onChange: (change) => changes.push(change), onKeepalive() {} });
    decoder.take(OUTBOX_RELATION);
    decoder.take(rowInsert(outboxRow()));
    assert.ok(changes[0]?.kind === 'event');
    assert.equal(changes[0].bytes, tuple(valuesOf(outboxRow())).length);
  });

  test('the outbox described anew with a column more is read by its new description', () => {
    const columns = ['added', ...OUTBOX_COLUMNS];
    const wider = insert(OUTBOX, valuesOf(outboxRow({ added: 'x' }, 2), columns));
    const taken = decodeAll(
      ...[OUTBOX_RELATION, rowInsert(outboxRow({}, 1)), relation(OUTBOX, 'ferry', 'outbox', columns), wider],
    );
    assert.deepEqual(taken, [idOf(1), idOf(2)]);
  });

  test('a row that is no event is malformed: what it is about, why, and the row itself', () => {
    const row = outboxRow({ type: null });
    assert.deepEqual(decodeAll(OUTBOX_RELATION, rowInsert(row)), [
      {
        kind: 'malformed',
        id: row.id,
        aggregateType: 'order',
        aggregateId: 'o-1',
        refusal: { code: 'EVENT_MALFORMED', message: 'outbox column type is null', path: null },
        original: tuple(valuesOf(row)),
      },
    ]);
  });

  test('inserts into other tables count in seq, also into a table of the same name elsewhere', () => {
    const others = [relation(OTHER, 'public', 'outbox', ['id']), insert(OTHER, ['1'])];
    assert.deepEqual(decodeAll(...others), [
      { kind: 'ignored', what: 'insert into public.outbox', as: 'insert', countsInSeq: true },
    ]);
  });

  test('messages of a transaction are handed on; those outside of one have no place in the commit order', () => {
    const content = Buffer.from('x');
    assert.deepEqual(decodeAll(message('a', content), message('b', content, 0n, false)), [
      { kind: 'message', prefix: 'a', content },
      { kind: 'ignored', what: 'message outside of a transaction', as: 'message', countsInSeq: false },
    ]);
  });

  test('whatever else comes does not count in seq', () => {
    assert.deepEqual(decodeAll(Buffer.from('T...')), [
      { kind: 'ignored', what: 'message T', as: 'truncate', countsInSeq: false },
    ]);
  });

  test('an insert into a relation that was never described is an error', () => {
    assert.throws(() => decodeAll(rowInsert(outboxRow())), /never described/);
  });
});

describe('gate', () => {
  test('what came before somebody took it is handed out first, in order, keepalives in their place', () => {
    const gate = new Gate();
    const notes = new Notes();
    gate.onData(OUTBOX_RELATION);
    gate.onKeepalive(5n as Lsn, false);
    gate.onData(rowInsert(outboxRow({}, 1)));
    gate.onKeepalive(6n as Lsn, true);
    assert.deepEqual(notes.taken, []);
    gate.open(notes);
    gate.onData(rowInsert(outboxRow({}, 2)));
    gate.onKeepalive(7n as Lsn, false);
    assert.deepEqual(notes.taken, ['keepalive 5', idOf(1), 'keepalive 6?', idOf(2), 'keepalive 7']);
  });

  test('behind a change that could not be handed on nothing comes any more, not even a keepalive', async () => {
    const gate = new Gate();
    const notes = new Notes();
    gate.open(notes);
    gate.onData(OUTBOX_RELATION);
    gate.onData(insert(OTHER, ['lost']));
    gate.onData(rowInsert(outboxRow({}, 1)));
    gate.onKeepalive(9n as Lsn, true);
    assert.match((await gate.failed.promise).message, /never described/);
    assert.deepEqual(notes.taken, []);
  });

  test('the same among what came early', async () => {
    const gate = new Gate();
    const notes = new Notes();
    for (const payload of [OUTBOX_RELATION, insert(OTHER, ['lost']), rowInsert(outboxRow())]) gate.onData(payload);
    gate.open(notes);
    await gate.failed.promise;
    assert.deepEqual(notes.taken, []);
  });

  test('a sink that throws ends the stream instead of the process', async () => {
    const gate = new Gate();
    const refuse = () => {
      throw new Error('out of order');
    };
    gate.open({ onChange: refuse, onKeepalive: refuse });
    gate.onData(begin(1n, 0, 1));
    assert.match((await gate.failed.promise).message, /out of order/);
  });
});
