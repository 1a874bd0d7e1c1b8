/**
 * The JSON forms of Avro's scalars, logical types included: what each accepts, and how it is shown. The table of forms stands in
 * json-codec.ts.
 */
import { ExactNumber } from '../kernel/exact-json.ts';
import { decimalBytes, decimalText, unscaledOfNumber, unscaledOfText } from './decimal.ts';
import { formatDate, formatTimeOfDay, formatTimestamp, parseDate, parseTimeOfDay, parseTimestamp } from './iso-time.ts';
import { mismatch } from './payload-mismatch.ts';
import type { EnumNode, FixedNode, LogicalType, PrimitiveNode } from './schema-tree.ts';

/** The kinds of JSON values. */
export type JsonKind = 'null' | 'boolean' | 'number' | 'string' | 'array' | 'object';

export interface Codec {
  /** Checks a parsed JSON value and makes it what avsc writes, in place where it can. Throws PayloadMismatch. */
  readonly toAvro: (value: unknown) => unknown;
  /** Makes a value that avsc read plain JSON again. */
  readonly toPlain: (value: unknown) => unknown;
  /** The JSON kind of the type's own form, and of a second one that it also takes. */
  readonly form: JsonKind;
  readonly secondForm?: JsonKind;
}

const same = <T>(value: T): T => value;
const INT_MIN = -2_147_483_648;
const INT_MAX = 2_147_483_647;
const UUID = /^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$/;
const NON_FINITE: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};

export function scalarCodec(node: PrimitiveNode | FixedNode | EnumNode): Codec {
  if (node.kind === 'enum') return enumCodec(node);
  const size = node.kind === 'fixed' ? node.size : undefined;
  if (node.logical !== null) return logicalCodec(node.logical, size);
  switch (node.kind) {
    case 'null':
      return checked('null', 'null', (value) => value === null);
    case 'boolean':
      return checked('boolean', 'a boolean', (value) => typeof value === 'boolean');
    case 'string':
      return checked('string', 'a string of well-formed Unicode', isText);
    case 'int':
      return { form: 'number', toAvro: toInt, toPlain: same };
    case 'long':
      return { form: 'number', toAvro: toLong, toPlain: same };
    case 'float':
    case 'double':
      return floatingCodec(node.kind);
    case 'bytes':
    case 'fixed':
      return bytesCodec(size);
  }
}

/** A float that takes only the numbers it holds exactly: for unions in which a double stands beside it. */
export function exactFloatCodec(): Codec {
  const float = floatingCodec('float');
  const toAvro = (value: unknown): unknown => {
    const converted = float.toAvro(value);
    if (typeof converted !== 'number' || Object.is(Math.fround(converted), converted)) return converted;
    throw mismatch('a number that 32 bits hold', value);
  };
  return { ...float, toAvro };
}

function checked(form: JsonKind, expected: string, holds: (value: unknown) => boolean): Codec {
  const toAvro = (value: unknown): unknown => {
    if (holds(value)) return value;
    throw mismatch(expected, value);
  };
  return { form, toAvro, toPlain: same };
}

/** A lone surrogate has no UTF-8 form: written, it would silently become another character. */
export function isText(value: unknown): value is string {
  return typeof value === 'string' && value.isWellFormed();
}

function toInt(value: unknown): unknown {
  const integer = value instanceof ExactNumber ? unscaledOfNumber(value.source, 10, 0) : value;
  if (Number.isInteger(integer) && Number(integer) >= INT_MIN && Number(integer) <= INT_MAX) return integer;
  throw mismatch('a 32-bit integer', value);
}

function toLong(value: unknown): unknown {
  const integer = value instanceof ExactNumber ? unscaledOfNumber(value.source, 19, 0) : value;
  if (Number.isSafeInteger(integer)) return integer;
  if (typeof integer === 'bigint' && BigInt.asIntN(64, integer) === integer) return integer;
  throw mismatch('a 64-bit integer', value);
}

function floatingCodec(kind: 'float' | 'double'): Codec {
  const toAvro = (value: unknown): unknown => {
    if (typeof value === 'string' && Object.hasOwn(NON_FINITE, value)) return NON_FINITE[value];
    const number =
      value instanceof ExactNumber ? Number(value.source) : typeof value === 'bigint' ? Number(value) : value;
    if (typeof number === 'number' && Number.isFinite(kind === 'float' ? Math.fround(number) : number)) return number;
    throw mismatch(`a ${kind}`, value);
  };
  const toPlain = (value: unknown): unknown => (Number.isFinite(value) ? value : String(value));
  return { form: 'number', secondForm: 'string', toAvro, toPlain };
}

function bytesCodec(size: number | undefined): Codec {
  const expected = size === undefined ? 'base64' : `base64 of ${size} bytes`;
  const toAvro = (value: unknown): unknown => {
    if (typeof value === 'string' && value.length % 4 === 0) {
      const bytes = Buffer.from(value, 'base64'); // lenient: so compare
      if ((size === undefined || bytes.length === size) && bytes.toString('base64') === value) return bytes;
    }
    throw mismatch(expected, value);
  };
  return { form: 'string', toAvro, toPlain: (value) => asBuffer(value).toString('base64') };
}

function enumCodec(node: EnumNode): Codec {
  const symbols = new Set(node.symbols);
  const expected = `one of ${node.symbols.slice(0, 20).join(', ')}${node.symbols.length > 20 ? ', …' : ''}`;
  return checked('string', expected, (value) => typeof value === 'string' && symbols.has(value));
}

function logicalCodec(logical: LogicalType, size: number | undefined): Codec {
  switch (logical.name) {
    case 'decimal':
      return decimalCodec(logical.precision, logical.scale, size);
    case 'uuid':
      return uuidCodec(size !== undefined);
    case 'date':
      return timeCodec('a date (YYYY-MM-DD)', parseDate, (days) => formatDate(Number(days)));
    case 'time': {
      const digits = logical.fractionDigits;
      const expected = `a time of day (HH:MM:SS, at most ${digits} fraction digits)`;
      return timeCodec(
        expected,
        (text) => parseTimeOfDay(text, digits),
        (units) => formatTimeOfDay(units, digits),
      );
    }
    default: {
      const zoned = logical.name === 'timestamp';
      const digits = logical.fractionDigits;
      const zone = zoned ? 'with Z or an offset' : 'without an offset';
      return timeCodec(
        `an ISO 8601 timestamp ${zone} and at most ${digits} fraction digits`,
        (text) => parseTimestamp(text, digits, zoned),
        (units) => formatTimestamp(units, digits, zoned),
      );
    }
  }
}

function decimalCodec(precision: number, scale: number, size: number | undefined): Codec {
  const digits = scale === 0 ? 'no decimal point' : `exactly ${scale} digit${scale === 1 ? '' : 's'} after the point`;
  const expected = `a decimal as a string with ${digits} and at most ${precision} in all`;
  const toAvro = (value: unknown): unknown => {
    let unscaled: number | bigint | null = null;
    if (typeof value === 'string') unscaled = unscaledOfText(value, precision, scale);
    else if (typeof value === 'number' || typeof value === 'bigint') {
      unscaled = unscaledOfNumber(String(value), precision, scale); // exact: longer numbers come as ExactNumber
    } else if (value instanceof ExactNumber) unscaled = unscaledOfNumber(value.source, precision, scale);
    if (unscaled === null) throw mismatch(expected, value);
    return decimalBytes(unscaled, size);
  };
  const toPlain = (value: unknown): unknown => decimalText(asBuffer(value), scale);
  return { form: 'string', secondForm: 'number', toAvro, toPlain };
}

function uuidCodec(binary: boolean): Codec {
  const toAvro = (value: unknown): unknown => {
    if (typeof value !== 'string' || !UUID.test(value)) throw mismatch('a UUID', value);
    return binary ? Buffer.from(value.replaceAll('-', ''), 'hex') : value;
  };
  const toPlain = (value: unknown): unknown =>
    binary
      ? asBuffer(value)
          .toString('hex')
          .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
      : value;
  return { form: 'string', toAvro, toPlain };
}

/** Times are integers in Avro. One that the calendar cannot show (a year beyond 9999) is shown as its integer. */
function timeCodec(
  expected: string,
  parse: (text: string) => number | bigint | null,
  format: (units: number | bigint) => string | null,
): Codec {
  const toAvro = (value: unknown): unknown => {
    const units = typeof value === 'string' ? parse(value) : null;
    if (units === null) throw mismatch(expected, value);
    return units;
  };
  const toPlain = (value: unknown): unknown =>
    typeof value === 'number' || typeof value === 'bigint' ? (format(value) ?? value) : value;
  return { form: 'string', toAvro, toPlain };
}

function asBuffer(value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw new TypeError('avsc gave something other than a Buffer for bytes');
}
