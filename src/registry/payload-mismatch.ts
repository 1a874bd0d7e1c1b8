/**
 * Why a payload does not fit its schema: where, and what was expected there. Never the value: that may be personal, and messages go
 * to logs and dead letters. For the same reason a map's keys, which are data, appear in the path as `*`.
 */
import { ExactNumber } from '../kernel/exact-json.ts';

export class PayloadMismatch {
  readonly #segments: string[] = [];
  readonly expected: string;

  /** Not an Error on purpose: it carries no stack, and is always caught by the encoder. */
  constructor(expected: string, at?: string) {
    this.expected = expected;
    if (at !== undefined) this.#segments.push(at);
  }

  /** Adds the enclosing field or index on the way out. */
  within(segment: string | number): this {
    this.#segments.push(String(segment));
    return this;
  }

  /** JSON pointer (RFC 6901) of the place; empty for the whole payload. */
  get path(): string {
    return this.#segments
      .toReversed()
      .map((segment) => `/${segment.replaceAll('~', '~0').replaceAll('/', '~1')}`)
      .join('');
  }
}

/** Adds a path segment to a mismatch that passes through; anything else passes as it is. */
export function within(thrown: unknown, segment: string | number): unknown {
  return thrown instanceof PayloadMismatch ? thrown.within(segment) : thrown;
}

/** `expected X, got a Y`, naming the kind of what came, not its value. */
export function mismatch(expected: string, value: unknown): PayloadMismatch {
  return new PayloadMismatch(`expected ${expected}, got ${kindOf(value)}`);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'string' || typeof value === 'boolean') return `a ${typeof value}`;
  return typeof value === 'object' && !(value instanceof ExactNumber) ? 'an object' : 'a number';
}
