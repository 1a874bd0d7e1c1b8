/**
 * JSON without losing a digit: whole numbers beyond 2^53 are bigints, in both directions. Plain JSON.parse rounds them silently.
 * Source: ECMAScript proposal "JSON.parse source text access", which Node 24 has and TypeScript's library does not know yet.
 */
type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

const withSource = JSON as unknown as {
  parse(text: string, reviver: Reviver): unknown;
  rawJSON(text: string): object;
};

const WHOLE_NUMBER = /^-?\d+$/;

/** Parses JSON. Throws a SyntaxError as JSON.parse does, and for the key `__proto__`, which careless code would assign through. */
export function parseExactJson(text: string): unknown {
  return withSource.parse(text, (key, value, { source }) => {
    if (key === '__proto__') throw new SyntaxError('the key __proto__ is refused');
    if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
    return source !== undefined && WHOLE_NUMBER.test(source) ? BigInt(source) : value;
  });
}

/** Prints JSON; bigints as whole numbers. `undefined` members are left out, as JSON.stringify does. */
export function stringifyExactJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'bigint' ? withSource.rawJSON(String(member)) : member,
  );
}

/** The same with the members of every object in the order of their names: equal documents give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => {
    if (typeof member === 'bigint') return withSource.rawJSON(String(member));
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member;
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
