/** A customer's credit, pure: what is reserved for orders never exceeds the limit. */
import { type Amount, addAmounts, type Currency, formatAmount, NO_AMOUNT, subtractAmounts } from './money.ts';
import { refusal } from './order.ts';

export interface Customer {
  readonly id: string;
  readonly currency: Currency;
  readonly creditLimit: Amount;
  /** The sum of the totals of the customer's orders that are neither paid and completed nor cancelled. */
  readonly creditReserved: Amount;
}

export function availableCredit(customer: Customer): Amount {
  return subtractAmounts(customer.creditLimit, customer.creditReserved);
}

/** The customer with `total` set aside. Throws BUSINESS_RULE if the currency is another or the credit does not suffice. */
export function reserveCredit(customer: Customer, total: Amount, currency: Currency): Customer {
  if (currency !== customer.currency) {
    throw refusal('order-currency', '/currency', `the customer's credit is in ${customer.currency}, not ${currency}`);
  }
  if (total > availableCredit(customer)) {
    throw refusal(
      'customer-credit',
      '/lines',
      `the customer's credit does not cover the total of ${formatAmount(total)}`,
    );
  }
  return { ...customer, creditReserved: addAmounts(customer.creditReserved, total) };
}

/** The customer with `total` free again. */
export function releaseCredit(customer: Customer, total: Amount): Customer {
  const creditReserved = subtractAmounts(customer.creditReserved, total);
  if (creditReserved < NO_AMOUNT) throw new Error(`customer ${customer.id} has less credit reserved than is released`);
  return { ...customer, creditReserved };
}

/** The customer with another limit. Throws BUSINESS_RULE if more is reserved already, or orders are in another currency. */
export function changeCredit(customer: Customer, creditLimit: Amount, currency: Currency): Customer {
  if (creditLimit < customer.creditReserved) {
    throw refusal('credit-limit', '/creditLimit', `${formatAmount(customer.creditReserved)} are reserved already`);
  }
  if (currency !== customer.currency && customer.creditReserved > NO_AMOUNT) {
    throw refusal('credit-currency', '/currency', `credit is reserved in ${customer.currency}`);
  }
  return { ...customer, creditLimit, currency };
}
