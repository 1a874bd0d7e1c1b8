/** Customers and their credit over HTTP. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import { setCustomerCredit } from '../domain/commerce/commands.ts';
import { availableCredit, type Customer } from '../domain/commerce/customer.ts';
import { formatAmount, parseAmount } from '../domain/commerce/money.ts';
import { findCustomer } from '../domain/commerce/repository.ts';
import { FerryError } from '../kernel/errors.ts';
import { transaction } from '../postgres/transaction.ts';
import { AmountText, answers, CurrencyCode, CustomerId, closed } from './contract.ts';
import { tellPosition, WRITTEN } from './position.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const CustomerParams = Type.Object({ id: CustomerId });
const CreditBody = Type.Object({ currency: CurrencyCode, creditLimit: AmountText }, closed);
const customerFields = {
  id: CustomerId,
  currency: CurrencyCode,
  creditLimit: AmountText,
  creditReserved: AmountText,
  creditAvailable: AmountText,
};
const CustomerSchema = Type.Object(customerFields);
const WrittenCustomerSchema = Type.Object(customerFields, WRITTEN);

export function customerRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    // PUT of the whole state: repeating it changes nothing, so it needs no Idempotency-Key.
    app.put(
      '/v1/customers/:id',
      {
        config: { role: 'admin' },
        schema: {
          operationId: 'setCustomerCredit',
          summary: 'Make a customer, or change its credit limit',
          params: CustomerParams,
          body: CreditBody,
          response: answers({ 200: WrittenCustomerSchema }, [400, 401, 403, 422, 503]),
        },
      },
      async (request, reply) => {
        const { currency, creditLimit } = request.body;
        const command = { customerId: request.params.id, currency, creditLimit: parseAmount(creditLimit) };
        const customer = await transaction(deps.pool, (tx) => setCustomerCredit(tx, actorOf(request), command));
        await tellPosition(reply, deps.pool);
        return resourceOf(customer);
      },
    );

    app.get(
      '/v1/customers/:id',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getCustomer',
          summary: 'Read a customer’s credit',
          params: CustomerParams,
          response: answers({ 200: CustomerSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async (request) => {
        const customer = await findCustomer(deps.pool, request.params.id);
        if (customer === null) throw new FerryError('NOT_FOUND', `there is no customer ${request.params.id}`);
        return resourceOf(customer);
      },
    );
    done();
  };
}

function resourceOf(customer: Customer): Static<typeof CustomerSchema> {
  return {
    id: customer.id,
    currency: customer.currency,
    creditLimit: formatAmount(customer.creditLimit),
    creditReserved: formatAmount(customer.creditReserved),
    creditAvailable: formatAmount(availableCredit(customer)),
  };
}
