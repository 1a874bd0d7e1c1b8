/** Payment as a participant: its commands, and what it answers. */
import type { CapturePayment, RefundPayment } from '../../events/generated/payloads.ts';
import { NonRetryableError } from '../../inbox/failure.ts';
import type { RetryPolicy } from '../../inbox/processor.ts';
import { CURRENCIES, formatAmount, parseAmount } from '../commerce/money.ts';
import { isRefusedOnPurpose } from '../injected-refusal.ts';
import {
  type Answer,
  type Command,
  defineParticipant,
  type Participant,
  type ParticipantParts,
} from '../participant.ts';
import { type CaptureResult, capturePayment, type RefundResult, refundPayment } from './commands.ts';
import type { PaymentKey } from './payment.ts';
import type { PaymentProvider } from './provider.ts';
import type { NewPayment } from './repository.ts';

export interface PaymentParts extends ParticipantParts {
  readonly provider: PaymentProvider;
  /** How many of a hundred orders are refused on purpose. */
  readonly faultPercent: number;
}

/** About a quarter of a minute: longer outages are for the saga's time-outs, since nobody else may hold up an order's commands. */
const RETRY: RetryPolicy = { maxTries: 8, baseMs: 100, maxMs: 4_000 };

/** One command a transaction: a provider that does not answer must not undo what was done for another order. */
const SETTINGS = { retry: RETRY, maxBatchEvents: 1, concurrency: 8 };

/** Its group is `<topic prefix>payment`. */
export function paymentParticipant(parts: PaymentParts): Participant {
  const { provider, faultPercent } = parts;
  return defineParticipant(parts, {
    name: 'payment',
    settings: SETTINGS,
    carryOuts: {
      'commerce.CapturePayment': async (command, tx) => {
        const { orderId } = command.payload;
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'payment');
        const lastTry = command.context.attempt >= RETRY.maxTries;
        const result = await capturePayment(tx, provider, requestOf(command), { refuse, lastTry });
        return captureAnswer(result);
      },
      'commerce.RefundPayment': async (command, tx) =>
        refundAnswer(await refundPayment(tx, provider, requestOf(command))),
    },
  });
}

function requestOf({ payload, correlation }: Command<CapturePayment | RefundPayment>): NewPayment {
  const currency = CURRENCIES.find((known) => known === payload.currency);
  if (currency === undefined)
    throw new NonRetryableError(`order ${payload.orderId} is in a currency that nobody takes`);
  const amount = parseAmount(payload.amount);
  return { id: payload.orderId, customerId: payload.customerId, currency, amount, ...keyOf(payload, correlation) };
}

/** The same for each try of a saga's step and for its undo, which may have to cancel at the provider what we do not remember. */
function keyOf({ orderId }: CapturePayment | RefundPayment, correlation: Command<unknown>['correlation']): PaymentKey {
  if (correlation === null) return { idempotencyKey: `order/${orderId}`, sourceSystem: 'command' };
  return { idempotencyKey: `${correlation.sagaId}/${correlation.step}`, sourceSystem: 'saga' };
}

function captureAnswer({ payment, duplicate, ...result }: CaptureResult): Answer {
  const { id: orderId, currency, changedAt } = payment;
  if (result.kind === 'failed') {
    const { reason } = result;
    return { type: 'commerce.PaymentFailed', payload: { orderId, reason, duplicate, failedAt: changedAt } };
  }
  const amount = formatAmount(payment.amount);
  return {
    type: 'commerce.PaymentCaptured',
    payload: { orderId, paymentId: payment.id, currency, amount, duplicate, capturedAt: changedAt },
  };
}

function refundAnswer({ payment, refunded, duplicate }: RefundResult): Answer {
  const { id: orderId, currency, changedAt } = payment;
  return {
    type: 'commerce.PaymentRefunded',
    payload: { orderId, currency, amount: formatAmount(refunded), duplicate, refundedAt: changedAt },
  };
}
