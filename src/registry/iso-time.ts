/**
 * Dates and times of Avro's logical types as ISO 8601 text, without Date: it knows only milliseconds, and this is on the relay's hot
 * path. Text has a fixed form, so that it is read by position. Integers are numbers while those are exact, else bigints.
 */
const DAY_SECONDS = 86_400;
const NOT_A_NUMBER = -1;

/**
 * `YYYY-MM-DDTHH:MM:SS[.f…]` with `Z` or `±HH:MM` (`zoned`), or with neither, as units of 10^-fractionDigits seconds since the
 * epoch. Null when it has another form, is no time of the calendar, or has more digits than the unit holds.
 */
export function parseTimestamp(text: string, fractionDigits: number, zoned: boolean): number | bigint | null {
  const days = dateAt(text);
  if (days === null || text.charCodeAt(10) !== 84 /* T */) return null;
  const seconds = timeAt(text, 11);
  if (seconds === null) return null;
  const end = fractionEnd(text, 19);
  const fraction = fractionAt(text, 19, end, fractionDigits);
  const offset = zoned ? zoneAt(text, end) : text.length === end ? 0 : null;
  if (fraction === null || offset === null) return null;
  return scaled(days * DAY_SECONDS + seconds - offset, fraction, fractionDigits);
}

/** The canonical text: UTC with `Z` when `zoned`, always `fractionDigits` digits. Null outside the years 0000 to 9999. */
export function formatTimestamp(units: number | bigint, fractionDigits: number, zoned: boolean): string | null {
  const unit = 10n ** BigInt(fractionDigits);
  const exact = BigInt(units);
  const fraction = ((exact % unit) + unit) % unit;
  const seconds = Number((exact - fraction) / unit);
  if (seconds < -62_167_219_200 || seconds >= 253_402_300_800) return null;
  const whole = new Date(seconds * 1000).toISOString().slice(0, 19);
  return `${whole}.${fraction.toString().padStart(fractionDigits, '0')}${zoned ? 'Z' : ''}`;
}

/** `YYYY-MM-DD` as days since the epoch, or null. */
export function parseDate(text: string): number | null {
  return text.length === 10 ? dateAt(text) : null;
}

export function formatDate(days: number): string | null {
  return formatTimestamp(days * DAY_SECONDS * 1000, 3, false)?.slice(0, 10) ?? null;
}

/** `HH:MM:SS[.f…]` as units of 10^-fractionDigits seconds since midnight, or null. */
export function parseTimeOfDay(text: string, fractionDigits: number): number | null {
  const seconds = timeAt(text, 0);
  const end = fractionEnd(text, 8);
  const fraction = fractionAt(text, 8, end, fractionDigits);
  return seconds === null || fraction === null || text.length !== end
    ? null
    : seconds * 10 ** fractionDigits + fraction;
}

export function formatTimeOfDay(units: number | bigint, fractionDigits: number): string | null {
  const value = Number(units);
  if (value < 0 || value >= DAY_SECONDS * 10 ** fractionDigits) return null;
  return formatTimestamp(value, fractionDigits, false)?.slice(11) ?? null;
}

function scaled(seconds: number, fraction: number, fractionDigits: number): number | bigint | null {
  const units = seconds * 10 ** fractionDigits + fraction;
  if (Number.isSafeInteger(units)) return units;
  const exact = BigInt(seconds) * 10n ** BigInt(fractionDigits) + BigInt(fraction);
  return BigInt.asIntN(64, exact) === exact ? exact : null; // nanoseconds end in 2262
}

function dateAt(text: string): number | null {
  const century = pair(text, 0);
  const rest = pair(text, 2);
  const month = pair(text, 5);
  const day = pair(text, 8);
  if (century < 0 || rest < 0 || text.charCodeAt(4) !== 45 || text.charCodeAt(7) !== 45) return null;
  const year = century * 100 + rest;
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return null;
  // days_from_civil, Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return (
    era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
  );
}

function daysInMonth(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

function timeAt(text: string, at: number): number | null {
  const hours = pair(text, at);
  const minutes = pair(text, at + 3);
  const seconds = pair(text, at + 6);
  if (text.charCodeAt(at + 2) !== 58 || text.charCodeAt(at + 5) !== 58) return null;
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || seconds < 0 || seconds > 59) return null;
  return hours * 3600 + minutes * 60 + seconds;
}

function fractionEnd(text: string, at: number): number {
  if (text.charCodeAt(at) !== 46) return at;
  let end = at + 1;
  while (digit(text, end) >= 0) end += 1;
  return end;
}

/** The fraction in units; zeros beyond the unit's digits are no loss, other digits are. */
function fractionAt(text: string, at: number, end: number, fractionDigits: number): number | null {
  if (end === at) return 0;
  if (end === at + 1) return null;
  let units = 0;
  for (let i = 0; i < Math.max(fractionDigits, end - at - 1); i++) {
    const value = at + 1 + i < end ? digit(text, at + 1 + i) : 0;
    if (i < fractionDigits) units = units * 10 + value;
    else if (value !== 0) return null;
  }
  return units;
}

/** The offset from UTC in seconds. */
function zoneAt(text: string, at: number): number | null {
  const sign = text.charCodeAt(at);
  if (sign === 90 /* Z */) return text.length === at + 1 ? 0 : null;
  if ((sign !== 43 && sign !== 45) || text.length !== at + 6 || text.charCodeAt(at + 3) !== 58) return null;
  const hours = pair(text, at + 1);
  const minutes = pair(text, at + 4);
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return null;
  return (sign === 45 ? -1 : 1) * (hours * 3600 + minutes * 60);
}

function digit(text: string, at: number): number {
  const code = text.charCodeAt(at) - 48;
  return code >= 0 && code <= 9 ? code : NOT_A_NUMBER; // NaN past the end fails both comparisons
}

function pair(text: string, at: number): number {
  const tens = digit(text, at);
  const ones = digit(text, at + 1);
  return tens < 0 || ones < 0 ? NOT_A_NUMBER : tens * 10 + ones;
}
