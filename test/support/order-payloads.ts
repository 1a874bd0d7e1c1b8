/** Payloads of the commerce schemas, as applications write them: plain JSON, valid against schemas/commerce.*.avsc. */
import { v7 as uuidv7 } from 'uuid';
import type { Random } from './random.ts';

const cents = (amount: number) => (amount / 100).toFixed(2);

/** About 300 bytes of JSON, some with the optional parts. */
export function orderPlaced(random: Random): object {
  const lines = Array.from({ length: random.between(1, 3) }, () => ({
    sku: `SKU-${random.between(1000, 9999)}`,
    quantity: random.between(1, 5),
    unitPrice: cents(random.between(100, 20_000)),
  }));
  const total = lines.reduce((sum, line) => sum + line.quantity * Math.round(Number(line.unitPrice) * 100), 0);
  const address = { name: 'Ada Müller', street: 'Kanalstraße 7', postalCode: '10115', city: 'Berlin', country: 'DE' };
  return {
    orderId: uuidv7(),
    customerId: `customer-${random.between(1, 50)}`,
    ...(random.chance(0.5) ? { customerEmail: 'ada@example.com' } : {}),
    currency: 'EUR',
    lines,
    total: cents(total),
    ...(random.chance(0.2) ? { shippingAddress: address } : {}),
    placedAt: '2026-01-02T03:04:05.678901Z',
  };
}

export function orderCancelled(random: Random): object {
  return {
    orderId: uuidv7(),
    customerId: `customer-${random.between(1, 50)}`,
    reason: random.pick(['CUSTOMER_REQUEST', 'OUT_OF_STOCK', 'OTHER']),
    currency: 'EUR',
    total: cents(random.between(100, 90_000)),
    cancelledAt: '2026-01-02T03:04:05.000001Z',
  };
}
