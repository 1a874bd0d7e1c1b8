/**
 * The payment provider's books: one charge a key, whatever is asked under it and however often. Each change is a line of a file before it is
 * answered, so that the books outlive a SIGKILL of the provider.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';

export type ChargeStatus =
  | 'authorised'
  | 'captured'
  | 'refunded'
  /** The card has no cover. */
  | 'declined'
  /** Nothing was taken, and the key is used up. */
  | 'voided';

export interface Charge {
  readonly key: string;
  readonly status: ChargeStatus;
  /** Decimal with two places; 0.00 where the key was cancelled before anything was asked for. */
  readonly amount: string;
  readonly currency: string;
}

const NOTHING = '0.00';

export class ChargeBook {
  readonly #charges = new Map<string, Charge>();
  readonly #journal: number | null;

  /** `file` keeps the books; null keeps them in memory only. */
  constructor(file: string | null) {
    if (file !== null && existsSync(file)) this.#read(file);
    this.#journal = file === null ? null : openSync(file, 'a', 0o600);
  }

  close(): void {
    if (this.#journal !== null) closeSync(this.#journal);
  }

  find(key: string): Charge | undefined {
    return this.#charges.get(key);
  }

  all(): Charge[] {
    return [...this.#charges.values()];
  }

  /** The charge of the key: the one there is, or a new one. */
  authorise(key: string, amount: string, currency: string, declineRate: number): Charge {
    const status = shareOf(key) < declineRate ? 'declined' : 'authorised';
    return this.#charges.get(key) ?? this.#keep({ key, status, amount, currency });
  }

  /** Undefined if nothing is held under the key, nor was it taken before. */
  capture(key: string): Charge | undefined {
    const charge = this.#charges.get(key);
    if (charge?.status === 'authorised') return this.#keep({ ...charge, status: 'captured' });
    return charge?.status === 'captured' ? charge : undefined;
  }

  /** Gives back or gives up whatever there is under the key, and leaves a mark if there is nothing. */
  cancel(key: string): Charge {
    const charge = this.#charges.get(key);
    if (charge === undefined) return this.#keep({ key, status: 'voided', amount: NOTHING, currency: '' });
    switch (charge.status) {
      case 'authorised':
        return this.#keep({ ...charge, status: 'voided' });
      case 'captured':
        return this.#keep({ ...charge, status: 'refunded' });
      default:
        return charge;
    }
  }

  #keep(charge: Charge): Charge {
    if (this.#journal !== null) writeSync(this.#journal, `${JSON.stringify(charge)}\n`);
    this.#charges.set(charge.key, charge);
    return charge;
  }

  /** The last line may have been cut off by a crash: then it was not answered either, and goes as a whole. */
  #read(file: string): void {
    const written = readFileSync(file);
    const journal = written.subarray(0, written.lastIndexOf('\n') + 1);
    truncateSync(file, journal.length);
    for (const line of journal.toString().split('\n').slice(0, -1)) {
      const charge = JSON.parse(line) as Charge;
      this.#charges.set(charge.key, charge);
    }
  }
}

/** A number in [0, 1) that depends on the key alone. */
function shareOf(key: string): number {
  return createHash('sha256').update(key).digest().readUInt32BE(0) / 2 ** 32;
}
