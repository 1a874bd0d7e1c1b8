/**
 * Keeps the latest version of a row, whatever the order in which its versions come: for projections that hold the state of something and
 * whose events carry all of it. An older or repeated version changes nothing.
 */
import { FerryError } from '../kernel/errors.ts';
import { stringifyExactJson } from '../kernel/exact-json.ts';
import type { Queryable } from '../postgres/connection.ts';

/**
 * What a column is given, in the form that its type reads: numeric and uuid as text, a timestamp as RFC 3339 text or a Date, bytea as
 * bytes, every digit of a bigint or ExactNumber. An object is JSON for a json or jsonb column; an array is that or a Postgres array, as
 * the column is.
 */
export type ColumnValue = string | number | bigint | boolean | object | null;

export type Columns = Readonly<Record<string, ColumnValue>>;

export interface LatestRow {
  /** The columns that identify the row: those of a primary key or of another unique constraint without nulls. */
  readonly key: Columns;
  /** Grows with each version, in the order of its column's type (bigint, timestamptz, …): the event's `aggregateVersion`, say. */
  readonly version: bigint | number | string | Date | null;
  /** The other columns. */
  readonly values: Columns;
}

export interface LatestTable {
  /** `orders` or `shop.orders`, letter case as in the database; as [schema, table] where a name holds a dot. */
  readonly table: string | readonly [schema: string, table: string];
  /** Default: `version`. Where a row's is null, every version counts as later. */
  readonly versionColumn?: string;
}

/**
 * Inserts the row, or overwrites it if the stored version is older. Resolves with whether it did: an equal version is a duplicate and is
 * not written. A writer of the same row at the same time is waited for. Throws EVENT_UNVERSIONED if the version is null, a TypeError or
 * RangeError for columns that make no statement, and what Postgres throws (42P10: no unique constraint over the key).
 */
export async function upsertLatest(tx: Queryable, row: LatestTable & LatestRow): Promise<boolean> {
  return (await upsertLatestMany(tx, { ...row, rows: [row] })) === 1;
}

/**
 * The same for rows of one table with the same columns, in one statement; several versions of one row are allowed. Resolves with how many
 * rows were written. Rows are locked in the order of their keys, the same for every writer: none waits for another in a circle.
 */
export async function upsertLatestMany(
  tx: Queryable,
  { table, versionColumn = 'version', rows }: LatestTable & { readonly rows: readonly LatestRow[] },
): Promise<number> {
  const [first] = rows;
  if (first === undefined) return 0;
  const columns = columnsOf(first, versionColumn);
  const documents = rows.map((row) => documentOf(row, columns, versionColumn));
  const statement = upsertStatement(quotedTable(table), columns, versionColumn);
  const { rowCount } = await tx.query(statement, [stringifyExactJson(documents)]);
  return rowCount ?? 0;
}

interface ColumnNames {
  readonly key: readonly string[];
  readonly values: readonly string[];
}

/**
 * The rows go in as one JSON text, which json_populate_recordset reads as rows of the table itself: any number of columns and types with
 * one parameter, keys compared and put in order by the database's own rules for their types.
 */
function upsertStatement(table: string, { key, values }: ColumnNames, versionColumn: string): string {
  const keys = key.map(quoted).join(', ');
  const version = quoted(versionColumn);
  const written = [...values.map(quoted), version];
  const all = [keys, ...written].join(', ');
  return `insert into ${table} as kept (${all})
    select distinct on (${keys}) ${all} from json_populate_recordset(null::${table}, $1::json)
    order by ${keys}, ${version} desc
    on conflict (${keys}) do update set ${written.map((column) => `${column} = excluded.${column}`).join(', ')}
    where (kept.${version} < excluded.${version}) is not false`;
}

function columnsOf({ key, values }: LatestRow, versionColumn: string): ColumnNames {
  const names = { key: Object.keys(key), values: Object.keys(values) };
  if (names.key.length === 0) throw new TypeError('a row is identified by at least one column');
  const all = [...names.key, ...names.values, versionColumn];
  const twice = all.find((name, at) => all.indexOf(name) !== at);
  if (twice !== undefined) throw new TypeError(`column ${twice} is named twice`);
  return names;
}

function documentOf({ key, version, values }: LatestRow, columns: ColumnNames, versionColumn: string): Columns {
  if (version === null)
    throw new FerryError('EVENT_UNVERSIONED', 'without a version nobody can tell which row is later');
  // To Postgres, NaN and Infinity are later than every number: no version would ever follow.
  if (typeof version === 'number' && !Number.isFinite(version)) throw new RangeError('the version is no finite number');
  if (Object.keys(key).length !== columns.key.length || Object.keys(values).length !== columns.values.length) {
    throw new TypeError('the rows of one statement have the same columns');
  }
  const document: Array<[string, ColumnValue]> = [[versionColumn, jsonOf(versionColumn, version)]];
  for (const name of columns.key) {
    // Null is equal to nothing, so each would become a row of its own.
    if (key[name] === null) throw new TypeError(`key column ${name} is null`);
    document.push([name, jsonOf(name, key[name])]);
  }
  for (const name of columns.values) document.push([name, jsonOf(name, values[name])]);
  return Object.fromEntries(document);
}

/** What JSON.stringify would lose or change goes in as the text that the column's type reads. */
function jsonOf(column: string, value: ColumnValue | undefined): ColumnValue {
  // Plain JavaScript gets here with a misspelt field, which must not overwrite a column with null.
  if (value === undefined) throw new TypeError(`column ${column} has no value; null is one`);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (value instanceof Date) return value.toISOString(); // throws a RangeError for an invalid one
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  return value;
}

function quotedTable(table: LatestTable['table']): string {
  const parts = typeof table === 'string' ? table.split('.') : table;
  if (parts.length > 2)
    throw new RangeError('a table is named `table` or `schema.table`; as [schema, table] if there is another dot');
  return parts.map(quoted).join('.');
}

const MAX_IDENTIFIER_BYTES = 63;

/** An identifier that Postgres takes as it stands; it would cut off a longer one, and so might mean another. */
function quoted(identifier: string): string {
  const bytes = Buffer.byteLength(identifier);
  if (bytes === 0 || bytes > MAX_IDENTIFIER_BYTES || identifier.includes('\0')) {
    throw new RangeError(`an identifier has 1 to ${MAX_IDENTIFIER_BYTES} bytes and no U+0000`);
  }
  return `"${identifier.replaceAll('"', '""')}"`;
}
