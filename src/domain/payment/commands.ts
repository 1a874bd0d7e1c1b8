/**
 * What the payment module does, on a book that is written in the caller's one transaction. The provider is called while the payment's row is
 * locked: a transaction that is lost after the call is repeated with the same key, and the provider gives the same answer. What no repetition can settle is undone
 * by whoever sent the command: `refundPayment` is right whatever happened before.
 */

import { NonRetryableError } from '../../inbox/failure.ts';
import { FerryError } from '../../kernel/errors.ts';
import { type Amount, NO_AMOUNT } from '../commerce/money.ts';
import { failed, hasKey, moved, type Payment, type PaymentFailure } from './payment.ts';
import type { PaymentBook } from './payment-book.ts';
import type { PaymentProvider } from './provider.ts';
import type { NewPayment } from './repository.ts';

export type CaptureResult =
  | { readonly kind: 'captured'; readonly payment: Payment; readonly duplicate: boolean }
  | {
      readonly kind: 'failed';
      readonly reason: PaymentFailure | 'OTHER_KEY';
      readonly payment: Payment;
      readonly duplicate: boolean;
    };

export interface CaptureOptions {
  /** Refuse it without asking the provider. */
  readonly refuse: boolean;
  /** Nobody will try again after this: rather make sure that nothing was taken, and say so. */
  readonly lastTry: boolean;
}

/**
 * Takes the money, once: the same payment asked for again under its key gets the first result, under another key it is refused. Throws
 * PART_UNREACHABLE while the provider does not answer; nothing is known then.
 */
export async function capturePayment(
  book: PaymentBook,
  provider: PaymentProvider,
  request: NewPayment,
  options: CaptureOptions,
): Promise<CaptureResult> {
  const payment = book.find(request.id);
  if (!hasKey(payment, request)) return { kind: 'failed', reason: 'OTHER_KEY', payment, duplicate: false };
  checkSameCharge(payment, request);
  switch (payment.status) {
    case 'captured':
      return { kind: 'captured', payment, duplicate: true };
    case 'refunded':
      return { kind: 'failed', reason: 'CANCELLED', payment, duplicate: true };
    case 'failed':
      return { kind: 'failed', reason: payment.failure ?? 'CANCELLED', payment, duplicate: true };
    case 'pending':
      return charge(book, provider, payment, options);
  }
}

async function charge(
  book: PaymentBook,
  provider: PaymentProvider,
  payment: Payment,
  { refuse, lastTry }: CaptureOptions,
): Promise<CaptureResult> {
  const refusal: PaymentFailure | null = refuse
    ? 'INJECTED'
    : await chargeAtProvider(provider, payment).catch(async (error: unknown) => {
        if (!lastTry || !isUnreachable(error)) throw error;
        await provider.cancel(payment.idempotencyKey);
        return 'PROVIDER_UNREACHABLE' as const;
      });
  if (refusal !== null) {
    const kept = book.keep(failed(payment, refusal));
    return { kind: 'failed', reason: refusal, payment: kept, duplicate: false };
  }
  return { kind: 'captured', payment: book.keep(moved(payment, 'captured'), 'capture'), duplicate: false };
}

/** Null if the money is ours. */
async function chargeAtProvider(provider: PaymentProvider, payment: Payment): Promise<'DECLINED' | null> {
  const { idempotencyKey, currency, amount } = payment;
  if ((await provider.authorise(idempotencyKey, { currency, amount })) === 'declined') return 'DECLINED';
  await provider.capture(idempotencyKey);
  return null;
}

export interface RefundResult {
  readonly payment: Payment;
  /** What was given back: nothing if nothing had been taken under this key. */
  readonly refunded: Amount;
  readonly duplicate: boolean;
}

/**
 * Gives back what was taken, and sees to it that nothing is taken later: a payment that was not asked for yet is kept as failed, and the
 * provider declines what may still be on its way. Throws PART_UNREACHABLE.
 */
export async function refundPayment(
  book: PaymentBook,
  provider: PaymentProvider,
  request: NewPayment,
): Promise<RefundResult> {
  const payment = book.find(request.id);
  if (!hasKey(payment, request)) {
    // Somebody else's payment stays as it is.
    return { payment, refunded: await provider.cancel(request.idempotencyKey), duplicate: false };
  }
  switch (payment.status) {
    case 'refunded':
      return { payment, refunded: payment.amount, duplicate: true };
    case 'failed':
      return { payment, refunded: NO_AMOUNT, duplicate: true };
    case 'pending': {
      // Taken all the same if the transaction that took it was lost: the ledger has not seen it.
      const refunded = await provider.cancel(payment.idempotencyKey);
      return { payment: book.keep(failed(payment, 'CANCELLED')), refunded, duplicate: false };
    }
    case 'captured': {
      const refunded = await provider.cancel(payment.idempotencyKey);
      return { payment: book.keep(moved(payment, 'refunded'), 'refund'), refunded, duplicate: false };
    }
  }
}

/** The sender's mistake, and no answer to it would be right: the payment may be captured or not. */
function checkSameCharge(payment: Payment, request: NewPayment): void {
  if (payment.amount === request.amount && payment.currency === request.currency) return;
  throw new NonRetryableError(`payment ${payment.id} is asked for again under its key, with another amount`);
}

function isUnreachable(error: unknown): boolean {
  return error instanceof FerryError && error.code === 'PART_UNREACHABLE';
}
