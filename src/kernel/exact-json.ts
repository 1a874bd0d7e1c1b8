/**
 * JSON without losing a digit: whole numbers beyond 2^53 are bigints, other numbers that a double would round are ExactNumbers, in
 * both directions. Plain JSON.parse rounds them silently.
 * Source: ECMAScript proposal "JSON.parse source text access", which Node 24 has and TypeScript's library does not know yet.
 */
type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

const withSource = JSON as unknown as {
  parse(text: string, reviver: Reviver): unknown;
  rawJSON(text: string): object;
};

const WHOLE_NUMBER = /^-?\d+$/;
/** Any decimal of at most 15 digits survives a double: it prints as the same digits. (The 16th place is the point.) */
const SAFE_DECIMAL = /^-?[\d.]{1,16}$/;

/** A number as it was written, when a double cannot hold its digits: more than 15 of them, or an exponent out of its range. */
export class ExactNumber {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

/**
 * Parses JSON. Throws a SyntaxError as JSON.parse does, and for what could not be passed on as it is: a number beyond all floats
 * (it would become null), half of a surrogate pair (UTF-8 has none), the key `__proto__` (careless code would assign through it).
 */
export function parseExactJson(text: string): unknown {
  return withSource.parse(text, (key, value, { source }) => {
    if (key === '__proto__') throw new SyntaxError('the key __proto__ is refused');
    if (!key.isWellFormed() || (typeof value === 'string' && !value.isWellFormed())) {
      throw new SyntaxError('a text holds half of a surrogate pair');
    }
    if (typeof value !== 'number' || source === undefined) return value;
    if (WHOLE_NUMBER.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
    if (SAFE_DECIMAL.test(source) || String(value) === source) return value;
    return source.length <= 15 && value !== 0 && Number.isFinite(value) ? value : new ExactNumber(source);
  });
}

/** Prints JSON; bigints and ExactNumbers with all their digits. `undefined` members are left out, as JSON.stringify does. */
export function stringifyExactJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => exactly(member));
}

/** The same with the members of every object in the order of their names: equal documents give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => {
    const printed = exactly(member);
    if (printed !== member || typeof member !== 'object' || member === null || Array.isArray(member)) return printed;
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function exactly(member: unknown): unknown {
  if (typeof member === 'bigint') return withSource.rawJSON(String(member));
  return member instanceof ExactNumber ? withSource.rawJSON(member.source) : member;
}
