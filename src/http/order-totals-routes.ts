/** What customers ordered, over HTTP: a read of a projection, which a client may hold back until its own writes are in it. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import { findCustomer, findOrderTotals, type OrderTotals } from '../domain/commerce/repository.ts';
import { FerryError } from '../kernel/errors.ts';
import { AmountText, answers, CurrencyCode, CustomerId } from './contract.ts';
import { HELD, PositionHeaders, untilPositionApplied } from './position.ts';
import type { RouteDeps } from './route-deps.ts';

const CustomerParams = Type.Object({ id: CustomerId });
const TotalsSchema = Type.Object({
  currency: CurrencyCode,
  placed: Type.Integer({ minimum: 0, description: 'Orders placed, cancelled ones included.' }),
  placedTotal: AmountText,
  cancelled: Type.Integer({ minimum: 0 }),
  cancelledTotal: AmountText,
});
const OrderTotalsSchema = Type.Object({ customerId: CustomerId, totals: Type.Array(TotalsSchema) }, HELD);

export function orderTotalsRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.get(
      '/v1/customers/:id/order-totals',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getOrderTotals',
          summary: 'Read what a customer ordered and cancelled, as far as the projection has come or up to a position',
          params: CustomerParams,
          headers: PositionHeaders,
          response: answers({ 200: OrderTotalsSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        await untilPositionApplied(deps.projections.ordersPerCustomer, request.headers, reply, deps.stopping);
        if ((await findCustomer(deps.pool, id)) === null)
          throw new FerryError('NOT_FOUND', `there is no customer ${id}`);
        return { customerId: id, totals: (await findOrderTotals(deps.pool, id)).map(totalsTextOf) };
      },
    );
    done();
  };
}

function totalsTextOf({ placed, cancelled, ...totals }: OrderTotals): Static<typeof TotalsSchema> {
  return { ...totals, placed: Number(placed), cancelled: Number(cancelled) };
}
