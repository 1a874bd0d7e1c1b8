/** Stock over HTTP: goods that come in, and what there is of an article. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import { recordAudit } from '../domain/audit.ts';
import { findStock, receiveStock, type StockLevel } from '../domain/inventory/repository.ts';
import { FerryError } from '../kernel/errors.ts';
import { answers, closed, IdempotencyHeaders, Sku } from './contract.ts';
import { answerOnce } from './idempotency.ts';
import { WRITTEN } from './position.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const StockParams = Type.Object({ sku: Sku });
const ReceiptBody = Type.Object({ quantity: Type.Integer({ minimum: 1, maximum: 1_000_000_000 }) }, closed);
const Pieces = Type.Integer({ minimum: 0 });
const stockFields = {
  sku: Type.String(),
  received: Pieces,
  shipped: Pieces,
  reserved: Pieces,
  available: Type.Integer({ minimum: 0, description: 'What may still be reserved.' }),
};
const StockSchema = Type.Object(stockFields);

export function stockRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.post(
      '/v1/stock/:sku/receipts',
      {
        config: { role: 'admin' },
        schema: {
          operationId: 'receiveStock',
          summary: 'Take in goods; a new article is made',
          headers: IdempotencyHeaders,
          params: StockParams,
          body: ReceiptBody,
          response: answers({ 200: Type.Object(stockFields, WRITTEN) }, [400, 401, 403, 409, 422, 503]),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { sku } = request.params;
          await receiveStock(tx, [{ sku, quantity: request.body.quantity }]);
          await recordAudit(tx, actorOf(request), { action: 'stock.receive', subject: `stock/${sku}`, eventId: null });
          return { status: 200, body: resourceOf(sku, await findStock(tx, sku)) };
        }),
    );

    app.get(
      '/v1/stock/:sku',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getStock',
          summary: 'What there is of an article',
          params: StockParams,
          response: answers({ 200: StockSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async (request) => resourceOf(request.params.sku, await findStock(deps.pool, request.params.sku)),
    );
    done();
  };
}

function resourceOf(sku: string, stock: StockLevel | null): Static<typeof StockSchema> {
  if (stock === null) throw new FerryError('NOT_FOUND', `there is no article ${sku}`);
  const { received, shipped, reserved, available } = stock;
  return {
    sku,
    received: Number(received),
    shipped: Number(shipped),
    reserved: Number(reserved),
    available: Number(available),
  };
}
