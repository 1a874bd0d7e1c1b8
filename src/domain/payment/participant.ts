/** Payment as a participant: its commands, and what it answers. */
import type { CapturePayment, RefundPayment } from '../../events/generated/payloads.ts';
import { NonRetryableError } from '../../inbox/failure.ts';
import type { RetryPolicy } from '../../inbox/retry-policy.ts';
import { CURRENCIES, formatAmount, parseAmount } from '../commerce/money.ts';
import { isRefusedOnPurpose } from '../injected-refusal.ts';
import {
  type Answer,
  type BatchedCommand,
  type Command,
  defineParticipant,
  type Participant,
  type ParticipantParts,
} from '../participant.ts';
import { type CaptureResult, capturePayment, type RefundResult, refundPayment } from './commands.ts';
import type { PaymentKey } from './payment.ts';
import { PaymentBook } from './payment-book.ts';
import type { PaymentProvider } from './provider.ts';
import type { NewPayment } from './repository.ts';

export interface PaymentParts extends ParticipantParts {
  readonly provider: PaymentProvider;
  /** How many of a hundred orders are refused on purpose. */
  readonly faultPercent: number;
}

/** About a quarter of a minute: longer outages are for the saga's time-outs, since nobody else may hold up an order's commands. */
const RETRY: RetryPolicy = { maxTries: 8, baseMs: 100, maxMs: 4_000 };

/** A batch lasts as long as its slowest call, and the calls of all its orders are under way at once: few enough for a provider to take. */
const SIDE_BY_SIDE = 32;
const SETTINGS = { retry: RETRY, maxBatchEvents: SIDE_BY_SIDE, concurrency: 4 };

/** Its group is `<topic prefix>payment`. */
export function paymentParticipant(parts: PaymentParts): Participant {
  const { provider, faultPercent } = parts;
  return defineParticipant<Payload, PaymentBook>(parts, {
    name: 'payment',
    settings: SETTINGS,
    sideBySide: SIDE_BY_SIDE,
    prepare: (commands, tx) => PaymentBook.open(tx, commands.map(checkedRequestOf)),
    finish: (book, tx) => book.save(tx),
    carryOuts: {
      'commerce.CapturePayment': async (command, _tx, book) => {
        const { orderId } = command.payload;
        const refuse = isRefusedOnPurpose(faultPercent, orderId, 'payment');
        const lastTry = command.context.attempt >= RETRY.maxTries;
        const result = await capturePayment(book, provider, requestOf(command), { refuse, lastTry });
        return captureAnswer(result);
      },
      'commerce.RefundPayment': async (command, _tx, book) =>
        refundAnswer(await refundPayment(book, provider, requestOf(command))),
    },
  });
}

type Payload = CapturePayment | RefundPayment;

/** Throws on an order that another key's commands are about: nothing would keep the two in their order. */
function checkedRequestOf(command: BatchedCommand<Payload>): NewPayment {
  const { aggregateId, payload } = command;
  if (aggregateId === payload.orderId) return requestOf(command);
  throw new NonRetryableError(`a command about order ${payload.orderId} came under the key ${aggregateId}`);
}

function requestOf({ payload, correlation }: Pick<Command<Payload>, 'payload' | 'correlation'>): NewPayment {
  const currency = CURRENCIES.find((known) => known === payload.currency);
  if (currency === undefined)
    throw new NonRetryableError(`order ${payload.orderId} is in a currency that nobody takes`);
  const amount = parseAmount(payload.amount);
  return { id: payload.orderId, customerId: payload.customerId, currency, amount, ...keyOf(payload, correlation) };
}

/** The same for each try of a saga's step and for its undo, which may have to cancel at the provider what we do not remember. */
function keyOf({ orderId }: Payload, correlation: Command<unknown>['correlation']): PaymentKey {
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
