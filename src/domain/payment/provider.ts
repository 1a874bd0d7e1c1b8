/**
 * The port to whoever moves the money. Charges are known by our key: every call may be repeated, and gives the first call's answer. An answer
 * that did not come says nothing about what was done; `cancel` is how one makes sure.
 */
import type { Amount, Currency } from '../commerce/money.ts';

export interface ChargeRequest {
  readonly currency: Currency;
  readonly amount: Amount;
}

export type Authorisation = 'authorised' | 'declined';

/** All of them reject with PART_UNREACHABLE when no answer came: it may or may not have been done. */
export interface PaymentProvider {
  /** Holds the money. A key that was cancelled before is declined. */
  authorise(key: string, charge: ChargeRequest): Promise<Authorisation>;
  /** Takes the money that is held under the key. */
  capture(key: string): Promise<void>;
  /**
   * Undoes whatever was done under the key, if anything was, and declines what still comes under it. Resolves with what was given back:
   * nothing if nothing had been taken.
   */
  cancel(key: string): Promise<Amount>;
}
