/**
 * Applies an aggregate's events strictly in the order of their versions, each once, in whatever order they come: an event that comes before
 * an earlier one waits in the database until the gap is closed. Kafka keeps the order of a key within a partition; this is for what does
 * not: several topics, a changed partition count, replayed dead letters. Source: G. Hohpe, B. Woolf, "Enterprise Integration Patterns",
 * 2003, Resequencer.
 */
import { FerryError } from '../kernel/errors.ts';
import { parseExactJson, stringifyExactJson } from '../kernel/exact-json.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { ConsumedEvent } from './consumed-event.ts';

/** Most events that may wait per group and aggregate: a gap this long does not close by itself. The table has a check of the same. */
export const MAX_WAITING = 1_000;

export interface SequencedEvent {
  /** Consumer group: each has a sequence of its own. */
  readonly group: string;
  readonly event: ConsumedEvent;
  /** The first version that the group is to apply of an aggregate it has not met yet; default 1. Those before it count as applied. */
  readonly startAt?: bigint;
}

export interface SequenceResult {
  /** What became of the event: given its effect, passed over as a duplicate, or waiting for an earlier version. */
  readonly outcome: 'applied' | 'skipped' | 'waiting';
  /** How many events had their effect in this call, those included that had waited for this one. */
  readonly applied: number;
}

/**
 * Calls `apply` for the event if it has the aggregate's next version, and then for those that waited behind it, in order; all in the
 * caller's transaction `tx`, which the group's other members wait for. `apply` must have no effect but through `tx`, and must take every
 * event of the aggregate, of whichever type: a version of a type that the group has no handler for is a gap that nothing closes.
 *
 * A waiting event is kept as it was handed in (but a number that is whole and beyond 2^53, from a `double`, comes back as a bigint). What
 * `apply` throws is thrown on, also when it concerns an event that had waited: nothing is applied then, and the same events wait as before.
 *
 * Throws EVENT_UNVERSIONED if the event lacks version, aggregate type or id; SEQUENCE_OVERFLOW if MAX_WAITING events wait already.
 */
export async function applyInSequence(
  tx: Queryable,
  { group, event, startAt = 1n }: SequencedEvent,
  apply: (event: ConsumedEvent) => Promise<void>,
): Promise<SequenceResult> {
  if (startAt < 1n) throw new RangeError('startAt is a version, 1 or more');
  const { aggregate, version } = placeOf(group, event);
  const start = await lockPosition(tx, aggregate, startAt);
  // Nothing that waits is the next version, unless an operator has just given one up.
  let position = await release(tx, aggregate, start, apply);

  let outcome: SequenceResult['outcome'] = 'skipped';
  if (version === position.applied + 1n) {
    await apply(event);
    position = await release(tx, aggregate, { ...position, applied: version }, apply);
    outcome = 'applied';
  } else if (version > position.applied) {
    const kept = await keepWaiting(tx, aggregate, position, { version, event });
    position = { ...position, waiting: position.waiting + kept };
    outcome = 'waiting';
  }

  await movePosition(tx, aggregate, position);
  return { outcome, applied: Number(position.applied - start.applied) };
}

/** Group, aggregate type and aggregate id: the key of both tables, in its order. */
type Aggregate = readonly [group: string, type: string, id: string];

interface Position {
  readonly applied: bigint;
  /** Events that wait for the version after it. */
  readonly waiting: number;
}

function placeOf(group: string, event: ConsumedEvent): { aggregate: Aggregate; version: bigint } {
  const { aggregateType, aggregateId, aggregateVersion } = event;
  if (aggregateType === null || aggregateId === null || aggregateVersion === null) {
    const missing = aggregateVersion === null ? 'version' : aggregateType === null ? 'type' : 'id';
    throw new FerryError(
      'EVENT_UNVERSIONED',
      `event ${event.id} has no aggregate ${missing}: it has no place in an order`,
      {
        details: { eventId: event.id, type: event.type, missing },
      },
    );
  }
  return { aggregate: [group, aggregateType, aggregateId], version: aggregateVersion };
}

const OF_AGGREGATE = 'consumer_group = $1 and aggregate_type = $2 and aggregate_id = $3';

/** Locks the aggregate's position to the end of the transaction; makes it if this is the group's first event of it. */
async function lockPosition(tx: Queryable, aggregate: Aggregate, startAt: bigint): Promise<Position> {
  const known = await tx.query<PositionRow>(
    `select applied_version, waiting from ferry.inbox_sequence where ${OF_AGGREGATE} for update`,
    [...aggregate],
  );
  const row = known.rows[0] ?? (await insertPosition(tx, aggregate, startAt));
  return { applied: BigInt(row.applied_version), waiting: row.waiting };
}

interface PositionRow {
  applied_version: bigint;
  waiting: number;
}

/** Waits for another transaction that makes the same row, and then locks that one: the update changes nothing. */
async function insertPosition(tx: Queryable, aggregate: Aggregate, startAt: bigint): Promise<PositionRow> {
  const { rows } = await tx.query<PositionRow>(
    `insert into ferry.inbox_sequence as known (consumer_group, aggregate_type, aggregate_id, applied_version)
     values ($1, $2, $3, $4)
     on conflict (consumer_group, aggregate_type, aggregate_id) do update set applied_version = known.applied_version
     returning applied_version, waiting`,
    [...aggregate, startAt - 1n],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('an upsert returned no row');
  return row;
}

async function movePosition(tx: Queryable, aggregate: Aggregate, { applied, waiting }: Position): Promise<void> {
  await tx.query(`update ferry.inbox_sequence set applied_version = $4, waiting = $5 where ${OF_AGGREGATE}`, [
    ...aggregate,
    applied,
    waiting,
  ]);
}

/** Stores the event; returns how many were added, which is none if its version waits already. */
async function keepWaiting(
  tx: Queryable,
  aggregate: Aggregate,
  { applied, waiting }: Position,
  { version, event }: { version: bigint; event: ConsumedEvent },
): Promise<number> {
  const text = stringifyExactJson(event);
  restoredEvent(text); // what cannot be read back must fail now, and not the event that closes the gap
  const { rowCount } = await tx.query(
    `insert into ferry.inbox_waiting (consumer_group, aggregate_type, aggregate_id, version, event_id, event)
     values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    [...aggregate, version, event.id, text],
  );
  const added = rowCount ?? 0;
  if (waiting + added <= MAX_WAITING) return added;
  const missing = String(applied + 1n);
  throw new FerryError(
    'SEQUENCE_OVERFLOW',
    `${MAX_WAITING} events of the aggregate of event ${event.id} wait for its version ${missing} already`,
    { details: { group: aggregate[0], aggregateType: aggregate[1], missingVersion: missing, eventId: event.id } },
  );
}

/** Applies what waits from the next version up to the next gap; returns the position that this leads to. */
async function release(
  tx: Queryable,
  aggregate: Aggregate,
  { applied, waiting }: Position,
  apply: (event: ConsumedEvent) => Promise<void>,
): Promise<Position> {
  while (waiting > 0) {
    // One by one: a thousand events at once might not fit into memory.
    const { rows } = await tx.query<{ event: string }>(
      `delete from ferry.inbox_waiting where ${OF_AGGREGATE} and version = $4 returning event::text`,
      [...aggregate, applied + 1n],
    );
    const [row] = rows;
    if (row === undefined) break;
    await apply(restoredEvent(row.event));
    applied += 1n;
    waiting -= 1;
  }
  return { applied, waiting };
}

/** Bigints of small value come back from JSON as numbers. */
function restoredEvent(text: string): ConsumedEvent {
  const event = parseExactJson(text) as ConsumedEvent;
  const { aggregateVersion, source } = event;
  return {
    ...event,
    aggregateVersion: aggregateVersion === null ? null : BigInt(aggregateVersion),
    source: { ...source, offset: BigInt(source.offset) },
  };
}
