/** Refusals on purpose, for the demo and for tests: a given part of the orders is refused at each step. */
import { createHash } from 'node:crypto';

/**
 * Whether `step` refuses this order, for `percent` of a hundred orders. It depends on nothing but the arguments, so that every try and every
 * process agrees, and each step refuses other orders.
 */
export function isRefusedOnPurpose(percent: number, orderId: string, step: string): boolean {
  const hash = createHash('sha256').update(`${step}/${orderId}`).digest();
  return hash.readUInt32BE(0) < (percent / 100) * 2 ** 32;
}
