/**
 * Version vectors: which of two copies of a value is the newer one, or that neither is, because each was written without knowledge of the
 * other. For values that are written in more than one place; where one place counts the versions, a number does (upsert-latest.ts).
 *
 * Each copy that takes writes is a node with a name of its own and counts its writes. A vector says how many writes of each node a value
 * has seen. Sources: D. S. Parker et al., "Detection of Mutual Inconsistency in Distributed Systems", IEEE TSE 9(3), 1983; F. Mattern,
 * "Virtual Time and Global States of Distributed Systems", 1989, and C. Fidge, 1988, on vector clocks, whose order this is.
 */
import { FerryError } from '../kernel/errors.ts';
import { canonicalJson, parseExactJson } from '../kernel/exact-json.ts';

/**
 * Node → how many of its writes were seen; a node that is missing has 0. Numbers and not bigints: a counter of writes does not reach 2^53,
 * and a number goes through JSON, jsonb and an Avro `map<long>` without care. Never beyond Number.MAX_SAFE_INTEGER.
 */
export type VersionVector = Readonly<Record<string, number>>;

/** How the first of two vectors stands to the second. */
export type VectorOrder = 'equal' | 'before' | 'after' | 'concurrent';

/** A value with the writes that it has seen. */
export interface Versioned<T> {
  readonly value: T;
  readonly vector: VersionVector;
}

/** The order of what happened: `before` if `b` has seen every write that `a` has, and more; `concurrent` if each has one of its own. */
export function compareVectors(a: VersionVector, b: VersionVector): VectorOrder {
  const behind = nodesOf(a, b).some((node) => counterOf(a, node) < counterOf(b, node));
  const ahead = nodesOf(a, b).some((node) => counterOf(a, node) > counterOf(b, node));
  if (behind && ahead) return 'concurrent';
  if (behind) return 'before';
  return ahead ? 'after' : 'equal';
}

/** The writes that either has seen: the least vector that is not before `a` or `b`. */
export function joinVectors(a: VersionVector, b: VersionVector): VersionVector {
  return Object.fromEntries(nodesOf(a, b).map((node) => [node, Math.max(counterOf(a, node), counterOf(b, node))]));
}

/**
 * The vector of a value that `node` writes on top of one with `vector`. Only the copy `node` itself may call it, one write after the other
 * (in the transaction that locks the value), and never from a state restored from a backup: a counter given twice makes two values look
 * equal. Such a copy takes a new name. Throws VERSION_VECTOR_INVALID for a name that JSON cannot carry or a counter at its end.
 */
export function incremented(vector: VersionVector, node: string): VersionVector {
  return versionVectorOf({ ...vector, [node]: counterOf(vector, node) + 1 });
}

/**
 * What to keep of two versions of a value: the later one, `local` itself where nothing is to be written; for concurrent ones
 * `merge(local, incoming)` with the joined vector. Copies that have seen the same writes hold the same value, whatever the order, the
 * repetition and the loss of deliveries on the way, provided that
 *
 * - `merge` is commutative, associative and idempotent, and
 * - a write on top of a value lies above it: `merge(old, written)` equals `written`. For "the last one wins" by a time this means that the
 *   time of a write is later than the one it replaces, also when the clock is not.
 *
 * That is a state-based CRDT: a join semilattice with writes that only go up (Shapiro et al., INRIA RR-7687, 2011). Where a write must be
 * able to take back what a merge brought, let the value be a set of additions and removals, and not a maximum.
 */
export function reconcile<T>(
  local: Versioned<T>,
  incoming: Versioned<T>,
  merge: (local: T, incoming: T) => T,
): Versioned<T> {
  switch (compareVectors(local.vector, incoming.vector)) {
    case 'equal':
    case 'after':
      return local;
    case 'before':
      return incoming;
    case 'concurrent':
      return {
        value: merge(local.value, incoming.value),
        vector: joinVectors(local.vector, incoming.vector),
      };
  }
}

/** As JSON: nodes in the order of their names, zeros left out, so that equal vectors have equal text. */
export function formatVector(vector: VersionVector): string {
  return canonicalJson(versionVectorOf(vector));
}

/** Reads what formatVector wrote, or anybody's JSON of that form. Throws VERSION_VECTOR_INVALID. */
export function parseVector(text: string): VersionVector {
  let parsed: unknown;
  try {
    parsed = parseExactJson(text);
  } catch (cause) {
    throw invalid('is no JSON', cause);
  }
  return versionVectorOf(parsed);
}

/** Checks a vector that comes parsed: from an event's value, from a jsonb column. Zeros are left out. Throws VERSION_VECTOR_INVALID. */
export function versionVectorOf(value: unknown): VersionVector {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('is no JSON object');
  const counters: Array<[string, number]> = [];
  for (const [node, counter] of Object.entries(value)) {
    if (!isNodeName(node)) throw invalid('has a node without a usable name');
    if (!Number.isSafeInteger(counter) || counter < 0) {
      throw invalid(`has a counter that is no whole number from 0 to 2^53 - 1, for node ${JSON.stringify(node)}`);
    }
    if (counter > 0) counters.push([node, counter]);
  }
  return Object.fromEntries(counters);
}

/** What comes back from JSON and from Postgres as it went: `__proto__` is refused by kernel/exact-json.ts, U+0000 by jsonb. */
function isNodeName(node: string): boolean {
  return node !== '' && node !== '__proto__' && node.isWellFormed() && !node.includes('\u0000');
}

function nodesOf(a: VersionVector, b: VersionVector): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])];
}

/** Own properties only: a node may be called `constructor`. */
function counterOf(vector: VersionVector, node: string): number {
  return Object.hasOwn(vector, node) ? (vector[node] ?? 0) : 0;
}

function invalid(what: string, cause?: unknown): FerryError {
  return new FerryError('VERSION_VECTOR_INVALID', `the version vector ${what}`, { cause });
}
