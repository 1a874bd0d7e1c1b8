/** The rules of a payment, pure: which state may follow which, and what is booked on the way. */
import type { Amount, Currency } from '../commerce/money.ts';

/** Which states may follow a state. */
export const TRANSITIONS = {
  /** Asked for, nothing known yet. */
  pending: ['captured', 'failed'],
  /** The money is ours. */
  captured: ['refunded'],
  /** It has been given back. */
  refunded: [],
  /** Nothing was taken, and nothing will be: declined, or cancelled before it was taken (even before it was asked for). */
  failed: [],
} as const satisfies Record<string, readonly string[]>;

export type PaymentStatus = keyof typeof TRANSITIONS;

export type PaymentFailure = 'DECLINED' | 'PROVIDER_UNREACHABLE' | 'CANCELLED' | 'INJECTED';

/** Under what a payment was asked for, and by which system; a payment has one for ever. */
export interface PaymentKey {
  readonly idempotencyKey: string;
  readonly sourceSystem: string;
}

export interface Payment extends PaymentKey {
  /** The order's id: an order is paid once. */
  readonly id: string;
  readonly status: PaymentStatus;
  readonly customerId: string;
  readonly currency: Currency;
  readonly amount: Amount;
  /** Set if and only if it is `failed`. */
  readonly failure: PaymentFailure | null;
  /** RFC 3339 in UTC with microseconds. */
  readonly changedAt: string;
}

/** The payment in its next state. Throws on a transition that the table does not have: that is a bug, not a condition. */
export function moved(payment: Payment, to: Exclude<PaymentStatus, 'failed'>): Payment {
  return { ...checked(payment, to), failure: null };
}

/** The payment as failed. Throws if money was taken already. */
export function failed(payment: Payment, failure: PaymentFailure): Payment {
  return { ...checked(payment, 'failed'), failure };
}

function checked(payment: Payment, to: PaymentStatus): Payment {
  const allowed: readonly string[] = TRANSITIONS[payment.status];
  if (!allowed.includes(to)) throw new Error(`payment ${payment.id} is ${payment.status} and cannot become ${to}`);
  return { ...payment, status: to };
}

export function hasKey(payment: PaymentKey, key: PaymentKey): boolean {
  return payment.idempotencyKey === key.idempotencyKey && payment.sourceSystem === key.sourceSystem;
}

/** One row of a booking: debit above zero, credit below, in minor units. */
export interface LedgerRow {
  readonly account: 'provider' | 'sales';
  readonly amount: bigint;
}

/** What the provider owes us for a payment is what we sold; a refund is the same backwards. The rows of a booking add up to zero. */
export function bookingOf(kind: 'capture' | 'refund', amount: Amount): readonly LedgerRow[] {
  const debit = kind === 'capture' ? amount : -amount;
  return [
    { account: 'provider', amount: debit },
    { account: 'sales', amount: -debit },
  ];
}
