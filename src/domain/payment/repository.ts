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
 * Inserts the payments as `pending`; resolves with those that were not there. Waits for a transaction that is inserting the same one, until
 * it has ended. No index is named for the conflict: of two at once, the second may meet the first in either of the two. All insert them in
 * the order of their ids, so that no two wait for each other.
 */
export async function insertPayments(tx: Queryable, payments: readonly NewPayment[]): Promise<Payment[]> {
  const { rows } = await tx.query<PaymentRow>(
    `insert into payment.payments (payment_id, idempotency_key, source_system, status, customer_id, currency, amount)
     select id, key, source, 'pending', customer, currency, amount
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
       as given (id, key, source, customer, currency, amount)
     order by id on conflict do nothing returning ${COLUMNS}`,
    [
      payments.map(({ id }) => id),
      payments.map(({ idempotencyKey }) => idempotencyKey),
      payments.map(({ sourceSystem }) => sourceSystem),
      payments.map(({ customerId }) => customerId),
      payments.map(({ currency }) => currency),
      payments.map(({ amount }) => amount),
    ],
  );
  return rows.map(paymentOf);
}

/** Holds the payments until the transaction ends, in the order of their ids: whoever asks for one of them again meanwhile waits here. */
export async function lockPayments(tx: Queryable, ids: readonly string[]): Promise<Payment[]> {
  const { rows } = await tx.query<PaymentRow>(
    `select ${COLUMNS} from payment.payments where payment_id = any ($1::uuid[]) order by payment_id for update`,
    [ids],
  );
  return rows.map(paymentOf);
}

/** Writes status, failure and time of change. */
export async function updatePayments(tx: Queryable, payments: readonly Payment[]): Promise<void> {
  await tx.query(
    `update payment.payments p set status = given.status, failure = given.failure, changed_at = given.changed_at
     from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) as given (id, status, failure, changed_at)
     where p.payment_id = given.id`,
    [
      payments.map(({ id }) => id),
      payments.map(({ status }) => status),
      payments.map(({ failure }) => failure),
      payments.map(({ changedAt }) => changedAt),
    ],
  );
}

export interface Booking {
  readonly kind: 'capture' | 'refund';
  readonly payment: Payment;
  readonly rows: readonly LedgerRow[];
}

/** The database refuses a booking a second time, and at the commit if it does not balance. */
export async function insertBookings(tx: Queryable, bookings: readonly Booking[]): Promise<void> {
  const entries = bookings.flatMap(({ kind, payment, rows }) => rows.map((row) => ({ kind, payment, ...row })));
  await tx.query(
    `insert into payment.ledger (payment_id, booking, account, currency, amount)
     select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[])`,
    [
      entries.map(({ payment }) => payment.id),
      entries.map(({ kind }) => kind),
      entries.map(({ account }) => account),
      entries.map(({ payment }) => payment.currency),
      entries.map(({ amount }) => amount),
    ],
  );
}
