/** Amounts of money: whole minor units as bigint inside, decimal text with two places outside; never a float. */

/** Minor units: 12.50 is 1250n. */
export type Amount = bigint & { readonly __brand: 'Amount' };

/** ISO 4217 codes, all with two decimal places: that is the scale of the amounts in the events' schemas. */
export const CURRENCIES = ['CHF', 'DKK', 'EUR', 'GBP', 'NOK', 'PLN', 'SEK', 'USD'] as const;
export type Currency = (typeof CURRENCIES)[number];

/** The text form: no sign, no leading zeros, two places; as a pattern for route schemas. */
export const AMOUNT_PATTERN = '^(0|[1-9][0-9]{0,9})\\.[0-9]{2}$';
const AMOUNT_TEXT = new RegExp(AMOUNT_PATTERN);

export const NO_AMOUNT = 0n as Amount;
/** What AMOUNT_PATTERN can write; no total may be larger. */
export const MAX_AMOUNT = 999_999_999_999n as Amount;

/** Parses `12.50`. Throws a TypeError on anything that AMOUNT_PATTERN refuses. */
export function parseAmount(text: string): Amount {
  if (!AMOUNT_TEXT.test(text)) throw new TypeError('not an amount with two decimal places');
  return BigInt(text.replace('.', '')) as Amount;
}

export function formatAmount(amount: bigint): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(3, '0');
  return `${amount < 0n ? '-' : ''}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

export function addAmounts(...amounts: readonly Amount[]): Amount {
  return amounts.reduce<bigint>((sum, amount) => sum + amount, 0n) as Amount;
}

export function subtractAmounts(from: Amount, amount: Amount): Amount {
  return (from - amount) as Amount;
}

export function multiplyAmount(amount: Amount, count: number): Amount {
  return (amount * BigInt(count)) as Amount;
}
