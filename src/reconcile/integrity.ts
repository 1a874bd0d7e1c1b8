/**
 * The counting behind "no loss, no duplicate, in order per aggregate, all decodable": the outbox, which is the ledger (or several of them), against the
 * records in Kafka. Every proof that Ferry gives (the demo, the chaos tests, `./ferry status`) is this one function; it is itself tested
 * on histories with planted faults. Events are named by id and place only, for keys and payloads may be personal data.
 */
import type { Position } from '../events/outbox-event.ts';

/** One row of the outbox. */
export interface LedgerRow {
  readonly id: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly aggregateVersion: bigint | null;
}

/** One record as a read_committed consumer gets it. */
export interface PublishedRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly key: string | null;
  /** The event's id from the headers; null where there is none. */
  readonly id: string | null;
  /** Ferry's position from the headers; null where there is none. */
  readonly position: Position | null;
  readonly deadLetter: boolean;
  /** Published by a replay: once more, behind what is in order, perhaps under an id of its own. */
  readonly replayed: boolean;
  /** Set if a release published it, or in a dead-letter topic refused it again: with its key, or alone, which keeps no order. */
  readonly release: 'key' | 'alone' | null;
  /** Whether the value decodes with the schema that it names; not asked of dead letters. */
  readonly decoded: boolean;
  /** The day of its row was taken out of the outbox: there is nothing to compare it with. Left out: it was not. */
  readonly retired?: boolean;
}

export const FAULTS = ['missing', 'duplicates', 'outOfOrder', 'undecodable', 'unexpected'] as const;
export type Fault = (typeof FAULTS)[number];

export interface IntegrityReport extends Readonly<Record<Fault, number>> {
  readonly outboxRows: number;
  /** Distinct events of the ledger that are in their topics. */
  readonly published: number;
  /** Of these, those that a release has published. */
  readonly released: number;
  /** Distinct events of the ledger that are in dead-letter topics and in no other. */
  readonly deadLettered: number;
  /** Records of replays. They stand for no row: what they repeat must be there besides. */
  readonly replayed: number;
  /** The first few of each fault: event ids, and where in Kafka. */
  readonly examples: Readonly<Record<Fault, readonly string[]>>;
}

type Stream<T> = Iterable<T> | AsyncIterable<T>;

const MAX_EXAMPLES = 10;

/** Whether nothing is wrong. Dead letters are no fault: they are accounted for. */
export function isSound(report: IntegrityReport): boolean {
  return FAULTS.every((fault) => report[fault] === 0);
}

/**
 * Counts the faults:
 * - missing: a row with no record, neither published nor dead-lettered;
 * - duplicates: each record beyond the first of an event, wherever it is; but a dead letter may be published once by a release, and be told of
 *   again by each release that could not publish it;
 * - outOfOrder: a record behind one of its aggregate that has a higher version (where the rows have versions) or a later position in the
 *   WAL (where they have none), or in another partition than the aggregate's first; of one that was released alone only the latter;
 * - undecodable: a published value that its own schema does not decode;
 * - unexpected: a record of no row, or under another key than its row's aggregate.
 *
 * `records` must come in offset order within each partition; partitions may interleave. Throws if they do not, or if the ledger names an id
 * twice: then the reading is at fault, and no count could be trusted. Keeps about 200 bytes a row in memory.
 */
export async function countIntegrity(
  ledger: Stream<LedgerRow>,
  records: Stream<PublishedRecord>,
): Promise<IntegrityReport> {
  const count = new IntegrityCount();
  for await (const row of ledger) count.addRow(row);
  for await (const record of records) count.addRecord(record);
  return count.report();
}

/** Where the records of an aggregate are and how far they have come. Dead letters have an order of their own. */
interface Track {
  topic: string;
  partition: number;
  version: bigint | null;
  position: Position | null;
}

interface Aggregate {
  readonly id: string;
  published: Track | null;
  deadLettered: Track | null;
}

interface Entry {
  readonly aggregate: Aggregate;
  readonly version: bigint | null;
  published: boolean;
  released: boolean;
  deadLettered: boolean;
}

class IntegrityCount {
  readonly #entries = new Map<string, Entry>();
  readonly #aggregates = new Map<string, Aggregate>();
  readonly #lastOffsets = new Map<string, bigint>();
  #replayed = 0;
  readonly #counts: Record<Fault, number> = { missing: 0, duplicates: 0, outOfOrder: 0, undecodable: 0, unexpected: 0 };
  readonly #examples: Record<Fault, string[]> = {
    missing: [],
    duplicates: [],
    outOfOrder: [],
    undecodable: [],
    unexpected: [],
  };

  addRow(row: LedgerRow): void {
    if (this.#entries.has(row.id)) throw new Error(`the ledger names event ${row.id} twice`);
    const name = `${row.aggregateType}\0${row.aggregateId}`; // Postgres text holds no NUL, so no two pairs meet
    let aggregate = this.#aggregates.get(name);
    if (aggregate === undefined) {
      aggregate = { id: row.aggregateId, published: null, deadLettered: null };
      this.#aggregates.set(name, aggregate);
    }
    this.#entries.set(row.id, {
      aggregate,
      version: row.aggregateVersion,
      published: false,
      released: false,
      deadLettered: false,
    });
  }

  addRecord(record: PublishedRecord): void {
    this.#checkOffset(record);
    if (!record.deadLetter && !record.decoded) this.#note('undecodable', record);
    if (record.replayed) {
      this.#replayed += 1;
      return;
    }
    const entry = record.id === null ? undefined : this.#entries.get(record.id);
    if (entry === undefined) {
      if (record.retired !== true) this.#note('unexpected', record);
      return;
    }
    if (record.deadLetter && record.release !== null) return; // refused again
    if (isDuplicate(entry, record)) {
      this.#note('duplicates', record);
    } else {
      if (record.key !== entry.aggregate.id) this.#note('unexpected', record);
      if (!advance(entry, record)) this.#note('outOfOrder', record);
    }
    if (record.deadLetter) entry.deadLettered = true;
    else {
      entry.published = true;
      entry.released ||= record.release !== null;
    }
  }

  report(): IntegrityReport {
    let published = 0;
    let deadLettered = 0;
    let released = 0;
    const counts = { ...this.#counts };
    const missing: string[] = [];
    for (const [id, entry] of this.#entries) {
      if (entry.published) published += 1;
      else if (entry.deadLettered) deadLettered += 1;
      if (entry.released) released += 1;
      if (entry.published || entry.deadLettered) continue;
      counts.missing += 1;
      if (missing.length < MAX_EXAMPLES) missing.push(id);
    }
    return {
      outboxRows: this.#entries.size,
      published,
      released,
      deadLettered,
      replayed: this.#replayed,
      ...counts,
      examples: { ...this.#examples, missing },
    };
  }

  #checkOffset({ topic, partition, offset }: PublishedRecord): void {
    const place = `${topic}[${partition}]`;
    const last = this.#lastOffsets.get(place);
    if (last !== undefined && offset <= last) {
      throw new Error(`records of ${place} were not read in order: offset ${offset} after ${last}`);
    }
    this.#lastOffsets.set(place, offset);
  }

  #note(fault: Fault, record: PublishedRecord): void {
    this.#counts[fault] += 1;
    const examples = this.#examples[fault];
    if (examples.length >= MAX_EXAMPLES) return;
    examples.push(`${record.id ?? 'no event id'} at ${record.topic}[${record.partition}]@${record.offset}`);
  }
}

/** The topics come one after the other, so the dead letter may be seen before the record that a release made of it, or after it. */
function isDuplicate(entry: Entry, { deadLetter, release }: PublishedRecord): boolean {
  if (deadLetter) return entry.deadLettered || (entry.published && !entry.released);
  return entry.published || (entry.deadLettered && release === null);
}

/** Moves the track of the record's aggregate on; false when the record is behind it, or in another partition. */
function advance(entry: Entry, record: PublishedRecord): boolean {
  const { aggregate, version } = entry;
  const { topic, partition, position } = record;
  const kind = record.deadLetter ? 'deadLettered' : 'published';
  const track = aggregate[kind];
  if (track === null) {
    aggregate[kind] = { topic, partition, version, position };
    return true;
  }
  const samePlace = track.topic === topic && track.partition === partition;
  if (record.release === 'alone') return samePlace;
  const inOrder =
    version !== null && track.version !== null ? version > track.version : isLater(position, track.position);
  if (version !== null && (track.version === null || version > track.version)) track.version = version;
  if (isLater(position, track.position)) track.position = position;
  return samePlace && inOrder;
}

/** Whether `next` comes after `last` in the WAL. A record without a position cannot be shown to be in order, so it counts as out of it. */
function isLater(next: Position | null, last: Position | null): boolean {
  if (next === null) return false;
  if (last === null) return true;
  return next.commitLsn > last.commitLsn || (next.commitLsn === last.commitLsn && next.seq > last.seq);
}
