/** The statements of the payment module: one a function. */
import type { Queryable } from '../../postgres/connection.ts';
import type { Amount, Currency } from '../commerce/money.ts';
import type { LedgerRow, Payment, PaymentFailure, PaymentKey, PaymentStatus } from './payment.ts';

export type NewPayment = PaymentKey & Pick<Payment, 'id' | 'customerId' | 'currency' | 'amount'>;

interface PaymentRow {
  payment_id: string;
  idempotency_key: string;
  source_system: string;
  status: PaymentStatus;
  customer_id: string;
  currency: Currency;
  amount: Amount;
  failure: PaymentFailure | null;
  changed_at: string;
}

const COLUMNS =
  'payment_id, idempotency_key, source_system, status, customer_id, currency, amount, failure, changed_at';

function paymentOf(row: PaymentRow): Payment {
  return {
    id: row.payment_id,
    idempotencyKey: row.idempotency_key,
    sourceSystem: row.source_system,
    status: row.status,
    customerId: row.customer_id,
    currency: row.currency,
    amount: row.amount,
    failure: row.failure,
    changedAt: row.changed_at,
  };
}

/**
 * Inserts the payment as `pending` unless it is there; null then. Waits for a transaction that is inserting the same one, until it has ended. No index is
 * named for the conflict: of two at once, the second may meet the first in either of the two.
 */
export async function insertPayment(tx: Queryable, payment: NewPayment): Promise<Payment | null> {
  const { rows } = await tx.query<PaymentRow>(
    `insert into payment.payments (payment_id, idempotency_key, source_system, status, customer_id, currency, amount)
     values ($1, $2, $3, 'pending', $4, $5, $6) on conflict do nothing returning ${COLUMNS}`,
    [payment.id, payment.idempotencyKey, payment.sourceSystem, payment.customerId, payment.currency, payment.amount],
  );
  return rows[0] === undefined ? null : paymentOf(rows[0]);
}

/** Holds the payment until the transaction ends: whoever asks for it again meanwhile waits here. */
export async function lockPayment(tx: Queryable, id: string): Promise<Payment> {
  const { rows } = await tx.query<PaymentRow>(
    `select ${COLUMNS} from payment.payments where payment_id = $1 for update`,
    [id],
  );
  if (rows[0] === undefined) throw new Error(`payment ${id} vanished`);
  return paymentOf(rows[0]);
}

/** Writes status and failure; resolves with the payment as it is kept. */
export async function updatePayment(tx: Queryable, payment: Payment): Promise<Payment> {
  const { rows } = await tx.query<PaymentRow>(
    `update payment.payments set status = $2, failure = $3, changed_at = clock_timestamp()
     where payment_id = $1 returning ${COLUMNS}`,
    [payment.id, payment.status, payment.failure],
  );
  if (rows[0] === undefined) throw new Error(`payment ${payment.id} vanished`);
  return paymentOf(rows[0]);
}

/** One booking; the database refuses it a second time, and at the commit if it does not balance. */
export async function insertBooking(
  tx: Queryable,
  payment: Payment,
  booking: 'capture' | 'refund',
  rows: readonly LedgerRow[],
): Promise<void> {
  await tx.query(
    `insert into payment.ledger (payment_id, booking, account, currency, amount)
     select $1, $2, account, $3, amount from unnest($4::text[], $5::bigint[]) as entry(account, amount)`,
    [payment.id, booking, payment.currency, rows.map(({ account }) => account), rows.map(({ amount }) => amount)],
  );
}
