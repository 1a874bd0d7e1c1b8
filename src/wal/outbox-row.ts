/**
 * Turns the tuple of an outbox row into an event. The columns are found by name once per Relation message, so that a column added later
 * does not move the others.
 */

import type { OutboxEvent, Payload } from '../events/outbox-event.ts';
import { isEventId } from '../kernel/event-id.ts';
import { timestampFromPostgres } from '../postgres/connection.ts';
import type { Relation } from './pgoutput.ts';

const COLUMNS = [
  'id',
  'aggregatetype',
  'aggregateid',
  'aggregateversion',
  'type',
  'payload',
  'payload_bytes',
  'tombstone',
  'schema_id',
  'headers',
  'traceparent',
  'occurred_at',
  'seq',
  'recorded_at',
] as const;
type ColumnName = (typeof COLUMNS)[number];

const NULL = 0x6e;
const TEXT = 0x74;

/** What is wrong with a row; `column` is where. */
export class RowError extends Error {
  override readonly name = 'RowError';
  readonly column: string;
  constructor(column: string, problem: string) {
    super(`outbox column ${column} ${problem}`);
    this.column = column;
  }
}

export class OutboxRowDecoder {
  readonly #index: Readonly<Record<ColumnName, number>>;
  readonly #starts: Int32Array;
  readonly #ends: Int32Array;
  #tuple: Buffer = Buffer.alloc(0);

  /** Throws a RowError if the relation lacks a column. */
  constructor(relation: Relation) {
    const find = (column: ColumnName): [ColumnName, number] => {
      const index = relation.columns.indexOf(column);
      if (index < 0) throw new RowError(column, 'is missing in the publication');
      return [column, index];
    };
    this.#index = Object.fromEntries(COLUMNS.map(find)) as Record<ColumnName, number>;
    this.#starts = new Int32Array(relation.columns.length);
    this.#ends = new Int32Array(relation.columns.length);
  }

  /** Throws a RowError naming the column if the row is not an event. */
  decode(tuple: Buffer): OutboxEvent {
    this.#scan(tuple);
    const id = this.#ascii('id');
    if (!isEventId(id)) throw new RowError('id', 'is no UUIDv7');
    const version = this.#text('aggregateversion', 'latin1');
    const schemaId = this.#text('schema_id', 'latin1');
    return {
      id,
      aggregateType: this.#required('aggregatetype'),
      aggregateId: this.#required('aggregateid'),
      aggregateVersion: version === null ? null : BigInt(version),
      type: this.#required('type'),
      payload: this.#payload(),
      schemaId: schemaId === null ? null : Number(schemaId),
      headers: this.#headers(),
      traceparent: this.#text('traceparent'),
      occurredAt: timestampFromPostgres(this.#ascii('occurred_at')),
      recordedAt: timestampFromPostgres(this.#ascii('recorded_at')),
      seq: BigInt(this.#ascii('seq')),
    };
  }

  /** Whatever can still be said of a row that is no event, for its dead letter. */
  describe(tuple: Buffer): { id: string; aggregateType: string; aggregateId: string } {
    this.#scan(tuple);
    return {
      id: this.#text('id') ?? '',
      aggregateType: this.#text('aggregatetype') ?? '',
      aggregateId: this.#text('aggregateid') ?? '',
    };
  }

  #scan(tuple: Buffer): void {
    this.#tuple = tuple;
    this.#starts.fill(-1);
    const count = Math.min(tuple.readUInt16BE(0), this.#starts.length);
    let at = 2;
    for (let i = 0; i < count; i++) {
      const kind = tuple[at++];
      if (kind === TEXT) {
        const length = tuple.readUInt32BE(at);
        this.#starts[i] = at + 4;
        at += 4 + length;
        this.#ends[i] = at;
      } else if (kind !== NULL) {
        throw new RowError(String(i), 'came in a form other than text'); // unchanged TOAST cannot occur in an insert
      }
    }
  }

  #text(column: ColumnName, encoding: 'utf8' | 'latin1' = 'utf8'): string | null {
    const index = this.#index[column];
    const start = this.#starts[index] ?? -1;
    return start < 0 ? null : this.#tuple.toString(encoding, start, this.#ends[index]);
  }

  /** Of a type that Postgres prints in ASCII, which is cheaper to read. */
  #ascii(column: ColumnName): string {
    const text = this.#text(column, 'latin1');
    if (text === null) throw new RowError(column, 'is null');
    return text;
  }

  #required(column: ColumnName): string {
    const text = this.#text(column);
    if (text === null) throw new RowError(column, 'is null');
    return text;
  }

  #payload(): Payload {
    const json = this.#text('payload');
    if (json !== null) return { kind: 'json', text: json };
    const bytes = this.#text('payload_bytes');
    if (bytes !== null) {
      if (!bytes.startsWith('\\x')) throw new RowError('payload_bytes', 'is not in hexadecimal output form');
      return { kind: 'avro', bytes: Buffer.from(bytes.slice(2), 'hex') };
    }
    if (this.#text('tombstone') === 't') return { kind: 'tombstone' };
    throw new RowError('payload', 'is null and the row is no tombstone');
  }

  #headers(): Readonly<Record<string, string>> {
    const text = this.#text('headers');
    if (text === null || text === '{}') return {};
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
      throw new RowError('headers', 'is not an object');
    for (const value of Object.values(parsed)) {
      if (typeof value !== 'string') throw new RowError('headers', 'has a value that is not a string');
    }
    return parsed as Record<string, string>;
  }
}
