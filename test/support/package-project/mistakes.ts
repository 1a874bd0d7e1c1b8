/** What the types are there to catch: each line under a comment must not compile, and the others must. Never run. */
import { consume, type HandleEvent, NonRetryableError } from 'ferry/inbox';
import { type EmitTransaction, emit, emitOf } from 'ferry/outbox';

/** A service's own events. */
interface BillingEvents {
  'billing.InvoiceSent': { readonly invoiceId: string; readonly total: string };
  'billing.InvoicePaid': { readonly invoiceId: string; readonly paidAt: string };
}

declare const tx: EmitTransaction;
const invoice = { aggregateType: 'invoice', aggregateId: 'i-1' } as const;
const emitBilling = emitOf<BillingEvents>();

await emitBilling(tx, { ...invoice, type: 'billing.InvoiceSent', payload: { invoiceId: 'i-1', total: '9.00' } });
await emitBilling(tx, { ...invoice, type: 'billing.InvoiceSent', payload: null });
// @ts-expect-error the total is text
await emitBilling(tx, { ...invoice, type: 'billing.InvoiceSent', payload: { invoiceId: 'i-1', total: 9 } });
// @ts-expect-error that is the payload of another type
await emitBilling(tx, { ...invoice, type: 'billing.InvoiceSent', payload: { invoiceId: 'i-1', paidAt: 'now' } });
// @ts-expect-error there is no such type
await emitBilling(tx, { ...invoice, type: 'billing.InvoiceLost', payload: { invoiceId: 'i-1' } });
// @ts-expect-error the key is missing
await emitBilling(tx, { aggregateType: 'invoice', type: 'billing.InvoiceSent', payload: null });
// @ts-expect-error a type that the package knows has its payload's type
await emit(tx, { ...invoice, type: 'commerce.OrderCancelled', payload: { orderId: 1 } });
await emit(tx, { ...invoice, type: 'anything.Else', payload: { whatever: true } });

const onPaid: HandleEvent<BillingEvents['billing.InvoicePaid'] | null> = async (event) => {
  if (event.value === null) throw new NonRetryableError('an invoice is never deleted');
  const paidAt: string = event.value.paidAt;
  // @ts-expect-error an invoice that is paid says nothing of its total
  console.log(paidAt, event.value.total);
};

consume<BillingEvents>({
  group: 'ledger',
  topics: ['invoice'],
  handlers: { 'billing.InvoicePaid': onPaid, 'billing.InvoiceSent': { handleBatch: async () => {} } },
});
// @ts-expect-error that handler is for another type's values
consume<BillingEvents>({ group: 'ledger', topics: ['invoice'], handlers: { 'billing.InvoiceSent': onPaid } });
// @ts-expect-error a group has a name
consume<BillingEvents>({ topics: ['invoice'], handlers: {} });
