/** Each message of the protocol, decoded from bytes built by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodePgOutput } from '../../../src/wal/pgoutput.ts';
import { begin, commit, insert, message, relation, tuple } from '../../support/pgoutput-bytes.ts';

const UNIX_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const MAX_LSN = 0xffffffff_ffffffffn;

test('begin: the LSN of the commit to come, its time, and an xid of 32 bits without a sign', () => {
  assert.deepEqual(decodePgOutput(begin(0x16_b374d848n, UNIX_MS, 4_294_967_295)), {
    tag: 'begin',
    finalLsn: 0x16_b374d848n,
    commitTimeMs: UNIX_MS,
    xid: 4_294_967_295,
  });
});

test('commit: where its record begins and where it ends', () => {
  assert.deepEqual(decodePgOutput(commit(MAX_LSN - 1n, MAX_LSN, UNIX_MS)), {
    tag: 'commit',
    commitLsn: MAX_LSN - 1n,
    endLsn: MAX_LSN,
    commitTimeMs: UNIX_MS,
  });
});

test('a time before 2000 is not one far in the future', () => {
  const decoded = decodePgOutput(begin(1n, Date.UTC(1999, 11, 31), 1));
  assert.equal(decoded.tag === 'begin' && decoded.commitTimeMs, Date.UTC(1999, 11, 31));
});

test('relation: names and columns, whatever letters they have', () => {
  const columns = ['id', 'größe', '列'];
  assert.deepEqual(decodePgOutput(relation(3_000_000_000, 'ferry', 'outbox', columns)), {
    tag: 'relation',
    relation: { id: 3_000_000_000, schema: 'ferry', table: 'outbox', columns },
  });
});

test('a relation without columns', () => {
  const decoded = decodePgOutput(relation(1, 'public', 'empty', []));
  assert.deepEqual(decoded.tag === 'relation' && decoded.relation.columns, []);
});

test('insert: the tuple as it stands, not copied', () => {
  const bytes = insert(16_400, ['a', null, '']);
  const decoded = decodePgOutput(bytes);
  assert.ok(decoded.tag === 'insert');
  assert.equal(decoded.relationId, 16_400);
  assert.deepEqual(decoded.tuple, tuple(['a', null, '']));
  assert.equal(decoded.tuple.buffer, bytes.buffer);
});

test('message: with content, without, and outside of a transaction', () => {
  const content = Buffer.from([0, 1, 255]);
  const decoded = { tag: 'message', transactional: true, lsn: 77n, prefix: 'ferry:main:heartbeat', content } as const;
  assert.deepEqual(decodePgOutput(message('ferry:main:heartbeat', content, 77n)), decoded);
  const empty = { ...decoded, prefix: '', content: Buffer.alloc(0), transactional: false };
  assert.deepEqual(decodePgOutput(message('', Buffer.alloc(0), 77n, false)), empty);
});

test('what else a server may send is named by its letter', () => {
  for (const letter of ['T', 'U', 'D', 'Y', 'O']) {
    assert.deepEqual(decodePgOutput(Buffer.from(`${letter}rest`)), { tag: 'other', letter });
  }
});

test('a message that is cut off is an error, never half a message', () => {
  for (const whole of [begin(1n, UNIX_MS, 1), commit(1n, 2n, UNIX_MS)]) {
    assert.throws(() => decodePgOutput(whole.subarray(0, -1)), RangeError);
  }
});
