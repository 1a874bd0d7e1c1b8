/** Times as texts: RFC 3339 in UTC, within the years that both it and Postgres have. Records of Kafka may claim anything. */

/** No year 0000, which Postgres does not have, and at most nanoseconds: Postgres refuses a text that is too long. */
const UTC_TIME = /^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z$/;
const LATEST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

export function isUtcTime(text: string): boolean {
  return UTC_TIME.test(text) && isDate(text);
}

/** Not the 30th of February, which Date takes for a day of March. Every month has 28 days, so that Date need hardly ever be asked. */
function isDate(text: string): boolean {
  return text.slice(8, 10) <= '28' || new Date(text).toISOString().startsWith(text.slice(0, 10));
}

/** Of milliseconds since the epoch; what is beyond the epoch or the year 9999 is the nearest of what there is. */
export function utcTimeOf(ms: number): string {
  return new Date(Math.min(Math.max(ms, 0), LATEST_MS)).toISOString();
}
