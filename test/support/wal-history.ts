/** A made-up history of committed transactions, as changes and as what must become of them in Kafka. */
import fc from 'fast-check';
import type { Change } from '../../src/events/change-stream.ts';
import type { OutgoingRecord } from '../../src/events/record.ts';
import { formatLsn, type Lsn } from '../../src/kernel/lsn.ts';
import { eventId, lsn, outboxEvent } from './relay-fixtures.ts';

export const HEARTBEAT_PREFIX = 'ferry:main:heartbeat';

type Row = 'event' | 'malformed' | 'message' | 'foreign' | 'heartbeat';

interface Shape {
  readonly rows: readonly Row[];
  /** Bytes of WAL between the last commit and this one's record; none is legal. */
  readonly gap: number;
}

export interface WalTransaction {
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly changes: readonly Change[];
}

const START = 1_000;
const COMMIT_RECORD_BYTES = 8;

export const historyStart = lsn(START);

const row = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Row>('event') },
  { weight: 4, arbitrary: fc.constantFrom<Row>('malformed', 'message', 'foreign', 'heartbeat') },
);
const shape: fc.Arbitrary<Shape> = fc.record({
  rows: fc.oneof(
    { weight: 6, arbitrary: fc.array(row, { maxLength: 4 }) },
    { weight: 1, arbitrary: fc.array(row, { minLength: 10, maxLength: 40 }) },
  ),
  gap: fc.constantFrom(0, 0, 50),
});

/** Histories of up to 30 transactions: mostly small ones, some larger than any batch, some without events. */
export const anyHistory: fc.Arbitrary<WalTransaction[]> = fc.array(shape, { maxLength: 30 }).map((shapes) => {
  let at = START;
  let rows = 0;
  return shapes.map((one, i) => {
    const commitLsn = at + one.gap;
    at = commitLsn + COMMIT_RECORD_BYTES;
    const changes = one.rows.map((kind) => changeOf(kind, ++rows));
    return transaction(commitLsn, 700 + i, changes);
  });
});

export function transaction(commitLsn: number, xid: number, rows: readonly Change[]): WalTransaction {
  const at = { commitLsn: lsn(commitLsn), commitTimeMs: commitLsn };
  const endLsn = lsn(commitLsn + COMMIT_RECORD_BYTES);
  return {
    commitLsn: at.commitLsn,
    endLsn,
    changes: [{ kind: 'begin', xid, ...at }, ...rows, { kind: 'commit', endLsn, ...at }],
  };
}

export function heartbeat(nonce: string): Change {
  return { kind: 'message', prefix: HEARTBEAT_PREFIX, content: Buffer.from(nonce) };
}

function changeOf(kind: Row, n: number): Change {
  switch (kind) {
    case 'event':
      return { kind: 'event', event: outboxEvent(n), bytes: 40 };
    case 'malformed': {
      const refusal = { code: 'EVENT_MALFORMED', message: 'no event', path: null } as const;
      const about = { id: eventId(n), aggregateType: 'order', aggregateId: 'o', original: Buffer.from('row') };
      return { kind: 'malformed', refusal, ...about };
    }
    case 'message':
      return { kind: 'message', prefix: 'somebody else', content: Buffer.from('x') };
    case 'foreign':
      return { kind: 'ignored', what: 'insert into public.t', as: 'insert', countsInSeq: true };
    case 'heartbeat':
      return heartbeat(eventId(n));
  }
}

/** `id@commitLsn/seq` of every row that must be in Kafka, in order. */
export function expectedOf(history: readonly WalTransaction[]): string[] {
  return history.flatMap(({ commitLsn, changes }) =>
    changes.slice(1, -1).flatMap((change, i) => {
      const id = change.kind === 'event' ? change.event.id : change.kind === 'malformed' ? change.id : null;
      return id === null ? [] : [`${id}@${formatLsn(commitLsn)}/${i + 1}`];
    }),
  );
}

/** The same of what is in Kafka, events and dead letters alike. */
export function placesOf(records: readonly OutgoingRecord[]): string[] {
  return records.map(({ headers: h }) => `${h.ce_id}@${h.ferry_lsn ?? h.source_lsn}/${h.ferry_seq ?? h.source_seq}`);
}
