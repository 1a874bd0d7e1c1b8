/**
 * Avro decimals: an unscaled integer in big-endian two's complement, as text with exactly `scale` digits after the point. Amounts of
 * up to 15 digits never touch a bigint: they are the common case, and this is on the relay's hot path.
 */
const SAFE_DIGITS = 15;
const DECIMAL = /^-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?$/;
const NUMBER = /^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?$/;

/** The unscaled integer of a text with exactly `scale` digits after the point, or null if it has another form or too many digits. */
export function unscaledOfText(text: string, precision: number, scale: number): number | bigint | null {
  const match = DECIMAL.exec(text);
  if (match === null || (match[1]?.length ?? 0) !== scale) return null;
  return unscaledOfDigits(scale === 0 ? text : text.slice(0, -scale - 1) + text.slice(-scale), precision);
}

/**
 * The unscaled integer of a JSON number by its source text: `12.5` at scale 2 is 1250. Null if it has more digits than the scale
 * holds: it is never rounded.
 */
export function unscaledOfNumber(source: string, precision: number, scale: number): number | bigint | null {
  const match = NUMBER.exec(source);
  if (match === null) return null;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match;
  const digits = (whole + fraction).replace(/^0+/, '');
  if (digits === '') return 0;
  const shift = Number(exponent) - fraction.length + scale; // the value is digits × 10^(shift − scale)
  if (digits.length + shift > precision) return null;
  if (shift >= 0) return unscaledOfDigits(sign + digits + '0'.repeat(shift), precision);
  return /^0*$/.test(digits.slice(shift)) ? unscaledOfDigits(sign + (digits.slice(0, shift) || '0'), precision) : null;
}

function unscaledOfDigits(text: string, precision: number): number | bigint | null {
  if (text.length <= SAFE_DIGITS) {
    const small = Number(text);
    return Math.abs(small) < 10 ** precision ? small + 0 : null; // + 0: never −0
  }
  const big = BigInt(text);
  return (big < 0n ? -big : big) < 10n ** BigInt(precision) ? big : null;
}

/** Big-endian two's complement, in as few bytes as hold it, or sign-extended to `size` (fixed). */
export function decimalBytes(unscaled: number | bigint, size?: number): Buffer {
  return typeof unscaled === 'number' ? smallBytes(unscaled, size) : bigBytes(unscaled, size);
}

function smallBytes(unscaled: number, size?: number): Buffer {
  let length = 1;
  for (let bound = 128; unscaled >= bound || unscaled < -bound; bound *= 256) length += 1;
  const bytes = Buffer.allocUnsafe(size ?? length);
  let left = unscaled;
  for (let at = bytes.length - 1; at >= 0; at--) {
    bytes[at] = left & 0xff; // ToInt32 is modulo 2^32, so the low byte is right beyond it as well
    left = Math.floor(left / 256);
  }
  return bytes;
}

function bigBytes(unscaled: bigint, size?: number): Buffer {
  let length = 1;
  for (let bound = 128n; unscaled >= bound || unscaled < -bound; bound <<= 8n) length += 1;
  const bytes = Buffer.allocUnsafe(size ?? length);
  let left = unscaled;
  for (let at = bytes.length - 1; at >= 0; at--) {
    bytes[at] = Number(left & 0xffn);
    left >>= 8n;
  }
  return bytes;
}

/** The text of a decimal's bytes; no bytes at all count as zero, as in Java's readers. */
export function decimalText(bytes: Uint8Array, scale: number): string {
  let unscaled = 0n;
  for (const byte of bytes) unscaled = (unscaled << 8n) | BigInt(byte);
  unscaled = BigInt.asIntN(bytes.length * 8, unscaled);
  const negative = unscaled < 0n;
  const digits = (negative ? -unscaled : unscaled).toString().padStart(scale + 1, '0');
  const point = digits.length - scale;
  return `${negative ? '-' : ''}${digits.slice(0, point)}${scale === 0 ? '' : `.${digits.slice(point)}`}`;
}
