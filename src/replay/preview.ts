/** What a replay would be about, counted without publishing anything. */
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';
import { SELECTED, type Selection, type SelectionScope, selectedValues, windowEnd } from './selection.ts';

export interface PreviewLine {
  readonly aggregateType: string;
  readonly type: string;
  /** Where the events are, and where a replay without a side topic goes. */
  readonly topic: string;
  readonly events: number;
  /** Of these, dead letters of the relay, which a replay leaves out. */
  readonly deadLettered: number;
  /** Of these, the rows that do not say which schema they are of; only their records do. */
  readonly schemaUnknown: number;
}

export interface PreviewEvent {
  readonly id: string;
  readonly seq: bigint;
  readonly recordedAt: string;
}

export interface Preview {
  readonly events: number;
  readonly lines: readonly PreviewLine[];
  readonly first: PreviewEvent | null;
  readonly last: PreviewEvent | null;
}

interface CountRow {
  readonly aggregatetype: string;
  readonly type: string;
  readonly events: bigint;
  readonly dead_lettered: bigint;
  readonly schema_unknown: bigint;
  readonly first_seq: bigint;
  readonly last_seq: bigint;
}

const COUNT = `
  select aggregatetype, type, count(*) as events, min(seq) as first_seq, max(seq) as last_seq,
         count(*) filter (where schema_id is null and not tombstone) as schema_unknown,
         count(*) filter (where exists (
           select from ferry.relay_dead_letter letter where letter.relay = $11 and letter.event_id = fact.id)) as dead_lettered
  from ferry.outbox_fact fact
  where fact.seq > $12 and fact.seq <= $13 and ${SELECTED}
  group by aggregatetype, type`;

/**
 * Bounds of the sequence in the days that may hold rows of the selection, and the snapshot: what a replay that begins now is about. Null if
 * there is no row at all.
 */
export async function openScope(db: Queryable, selection: Selection): Promise<SelectionScope | null> {
  const { rows } = await db.query<{ snapshot: string; first: bigint | null; last: bigint | null }>(
    `select pg_current_snapshot()::text as snapshot, min(seq) as first, max(seq) as last from ferry.outbox_fact fact
     where ($1::uuid[] is null or id = any($1))
       and ($2::timestamptz is null or id >= ferry.uuid_floor(date_trunc('day', $2 - interval '1 day 1 second', 'UTC')))
       and ($3::timestamptz is null or id < ferry.uuid_floor(date_trunc('day', $3 + interval '1 day 1 hour 1 second', 'UTC')))`,
    [selection.eventIds, selection.recordedFrom, selection.recordedTo],
  );
  const row = rows[0];
  if (row === undefined || row.first === null || row.last === null) return null;
  return { snapshot: row.snapshot, firstSeq: row.first, lastSeq: row.last };
}

/** Counts the selection, a bounded part at a time. Rejects with OVERLOADED when that takes longer than `timeoutMs`. */
export async function previewReplay(
  db: Queryable,
  {
    selection,
    relay,
    routes,
    timeoutMs,
  }: { selection: Selection; relay: string; routes: TopicRoutes; timeoutMs: number },
): Promise<Preview> {
  const scope = await openScope(db, selection);
  const lines = new Map<string, PreviewLine>();
  let [first, last]: [bigint | null, bigint | null] = [null, null];
  const deadline = performance.now() + timeoutMs;
  for (let cursor = scope === null ? 0n : scope.firstSeq - 1n; scope !== null && cursor < scope.lastSeq; ) {
    if (performance.now() > deadline) {
      throw new FerryError(
        'OVERLOADED',
        'the selection cannot be counted in time: narrow it down by time, or count it with `./ferry replay`',
      );
    }
    const end = windowEnd(selection, scope, cursor);
    const { rows } = await db.query<CountRow>(COUNT, [...selectedValues(selection, scope), relay, cursor, end]);
    for (const row of rows) {
      add(lines, row, routes);
      if (first === null || row.first_seq < first) first = row.first_seq;
      if (last === null || row.last_seq > last) last = row.last_seq;
    }
    cursor = end;
  }
  const counted = [...lines.values()].sort((a, b) => b.events - a.events);
  const events = counted.reduce((sum, line) => sum + line.events, 0);
  return { events, lines: counted, first: await eventAt(db, first), last: await eventAt(db, last) };
}

function add(lines: Map<string, PreviewLine>, row: CountRow, routes: TopicRoutes): void {
  const key = `${row.aggregatetype}\0${row.type}`;
  const known = lines.get(key);
  lines.set(key, {
    aggregateType: row.aggregatetype,
    type: row.type,
    topic: routes.tryTopicOf(row.aggregatetype) ?? deadLetterTopic(routes.unrouted),
    events: (known?.events ?? 0) + Number(row.events),
    deadLettered: (known?.deadLettered ?? 0) + Number(row.dead_lettered),
    schemaUnknown: (known?.schemaUnknown ?? 0) + Number(row.schema_unknown),
  });
}

async function eventAt(db: Queryable, seq: bigint | null): Promise<PreviewEvent | null> {
  if (seq === null) return null;
  const { rows } = await db.query<PreviewEvent>(
    'select id, seq, recorded_at as "recordedAt" from ferry.outbox_fact where seq = $1',
    [seq],
  );
  return rows[0] ?? null;
}
