/** Orders over HTTP: place, read, list, cancel. */
import { type FastifyPluginCallbackTypebox, type Static, Type } from '@fastify/type-provider-typebox';
import { cancelOrder, placeOrder } from '../domain/commerce/commands.ts';
import { fulfilment } from '../domain/commerce/fulfilment.ts';
import { formatAmount, parseAmount } from '../domain/commerce/money.ts';
import {
  CANCEL_REASONS,
  MAX_LINES,
  MAX_QUANTITY,
  ORDER_STATUSES,
  type Order,
  type OrderLine,
  type OrderRequest,
} from '../domain/commerce/order.ts';
import { findOrder, findOrderLines, listOrders } from '../domain/commerce/repository.ts';
import { FerryError } from '../kernel/errors.ts';
import { findSagaOfKey } from '../ops/sagas.ts';
import { INSTANCE_STATES } from '../saga/states.ts';
import {
  AmountText,
  answers,
  CurrencyCode,
  CustomerId,
  closed,
  IdempotencyHeaders,
  Sku,
  Timestamp,
  text,
  Uuid,
  UuidV7,
} from './contract.ts';
import { NextCursor, PageQuery, readPage } from './cursor.ts';
import { answerOnce } from './idempotency.ts';
import { WRITTEN } from './position.ts';
import { actorOf, type RouteDeps } from './route-deps.ts';

const LineSchema = Type.Object(
  {
    sku: Sku,
    quantity: Type.Integer({ minimum: 1, maximum: MAX_QUANTITY }),
    unitPrice: AmountText,
  },
  closed,
);
const AddressSchema = Type.Object(
  {
    name: text(200, 'Recipient.'),
    street: text(200, 'Street and number.'),
    postalCode: text(20, 'Postal code.'),
    city: text(100, 'City.'),
    country: Type.String({ pattern: '^[A-Z]{2}$', description: 'ISO 3166-1 alpha-2 code.' }),
  },
  closed,
);
const PlaceOrderBody = Type.Object(
  {
    customerId: CustomerId,
    currency: CurrencyCode,
    lines: Type.Array(LineSchema, { minItems: 1, maxItems: MAX_LINES }),
    total: Type.Optional(Type.String({ ...AmountText, description: 'Checked against the lines, if given.' })),
    customerEmail: Type.Optional(Type.String({ pattern: '^[^@\\s\\u0000]{1,64}@[^@\\s\\u0000]{1,189}$' })),
    shippingAddress: Type.Optional(AddressSchema),
  },
  closed,
);
const CancelOrderBody = Type.Object(
  {
    reason: Type.Optional(Type.Enum([...CANCEL_REASONS], { description: 'Default: CUSTOMER_REQUEST.' })),
    note: Type.Optional(text(500, 'In the customer’s words.')),
  },
  closed,
);
const orderFields = {
  id: UuidV7,
  customerId: CustomerId,
  status: Type.Enum([...ORDER_STATUSES]),
  currency: CurrencyCode,
  total: AmountText,
  version: Type.Integer({ minimum: 1, description: 'Version of the order’s newest event.' }),
  placedAt: Timestamp,
  changedAt: Timestamp,
};
const OrderSummarySchema = Type.Object(orderFields);
/** Its course, not only where it is: GET /v1/sagas/{id}; or as it goes: GET /v1/orders/{id}/events. */
const OrderSagaSchema = Type.Object({
  id: UuidV7,
  state: Type.Enum([...INSTANCE_STATES]),
  step: Type.Union([Type.String(), Type.Null()], { description: 'Where it is; null once it has ended.' }),
  since: Timestamp,
});
const OrderSchema = Type.Object({
  ...orderFields,
  customerEmail: Type.Union([Type.String(), Type.Null()]),
  shippingAddress: Type.Union([AddressSchema, Type.Null()]),
  lines: Type.Array(LineSchema),
  saga: Type.Union([OrderSagaSchema, Type.Null()], {
    description:
      'How far its fulfilment is; null until that has begun, and again when it ended SAGA_RETENTION days ago.',
  }),
});
const OrderChangeSchema = Type.Object(
  {
    ...orderFields,
    eventId: Type.String({ ...UuidV7, description: 'The event that tells of the change; see /v1/events/{id}/status.' }),
  },
  WRITTEN,
);
const OrderPageSchema = Type.Object({
  orders: Type.Array(OrderSummarySchema),
  nextCursor: NextCursor,
});
const OrderParams = Type.Object({ id: Uuid });
const OrderQuery = Type.Object(
  {
    customerId: Type.Optional(CustomerId),
    status: Type.Optional(Type.Enum([...ORDER_STATUSES])),
    ...PageQuery,
  },
  closed,
);

export function orderRoutes(deps: RouteDeps): FastifyPluginCallbackTypebox {
  return (app, _options, done) => {
    app.post(
      '/v1/orders',
      {
        config: { role: 'writer' },
        schema: {
          operationId: 'placeOrder',
          summary: 'Place an order and reserve its total from the customer’s credit',
          headers: IdempotencyHeaders,
          body: PlaceOrderBody,
          response: answers({ 201: OrderChangeSchema }, [400, 401, 403, 409, 422, 500, 503]),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { order, eventId } = await placeOrder(tx, deps.events, actorOf(request), requestOf(request.body));
          return { status: 201, body: { ...summaryOf(order), eventId }, location: `/v1/orders/${order.id}` };
        }),
    );

    app.post(
      '/v1/orders/:id/cancel',
      {
        config: { role: 'writer' },
        schema: {
          operationId: 'cancelOrder',
          summary: 'Cancel an order and release its credit',
          headers: IdempotencyHeaders,
          params: OrderParams,
          body: CancelOrderBody,
          response: answers({ 200: OrderChangeSchema }, [400, 401, 403, 404, 409, 422, 500, 503]),
        },
      },
      (request, reply) =>
        answerOnce(deps.idempotency, request, reply, async (tx) => {
          const { reason = 'CUSTOMER_REQUEST', note = null } = request.body;
          const command = { orderId: request.params.id, reason, note };
          const { order, eventId } = await cancelOrder(tx, deps.events, actorOf(request), command);
          return { status: 200, body: { ...summaryOf(order), eventId } };
        }),
    );

    app.get(
      '/v1/orders/:id',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'getOrder',
          summary: 'Read an order with its lines',
          params: OrderParams,
          response: answers({ 200: OrderSchema }, [401, 403, 404, 422, 503]),
        },
      },
      async (request) => {
        const order = await findOrder(deps.pool, request.params.id);
        if (order === null) throw new FerryError('NOT_FOUND', `there is no order ${request.params.id}`);
        const lines = await findOrderLines(deps.pool, order.id);
        const saga = await findSagaOfKey(deps.pool, fulfilment.name, order.id);
        const { customerEmail, shippingAddress } = order;
        return {
          ...summaryOf(order),
          customerEmail,
          shippingAddress,
          lines: lines.map(lineTextOf),
          saga: saga === null ? null : { id: saga.id, state: saga.state, step: saga.step, since: saga.changedAt },
        };
      },
    );

    app.get(
      '/v1/orders',
      {
        config: { role: 'viewer' },
        schema: {
          operationId: 'listOrders',
          summary: 'List orders, newest first',
          querystring: OrderQuery,
          response: answers({ 200: OrderPageSchema }, [401, 403, 422, 503]),
        },
      },
      async ({ query }) => {
        const { customerId = null, status = null } = query;
        const { rows, nextCursor } = await readPage(query, (slice) =>
          listOrders(deps.pool, { customerId, status, ...slice }),
        );
        return { orders: rows.map(summaryOf), nextCursor };
      },
    );
    done();
  };
}

function requestOf(body: Static<typeof PlaceOrderBody>): OrderRequest {
  return {
    customerId: body.customerId,
    currency: body.currency,
    lines: body.lines.map(({ sku, quantity, unitPrice }) => ({ sku, quantity, unitPrice: parseAmount(unitPrice) })),
    total: body.total === undefined ? null : parseAmount(body.total),
    customerEmail: body.customerEmail ?? null,
    shippingAddress: body.shippingAddress ?? null,
  };
}

function summaryOf(order: Order): Static<typeof OrderSummarySchema> {
  const { id, customerId, status, currency, placedAt, changedAt } = order;
  return {
    id,
    customerId,
    status,
    currency,
    total: formatAmount(order.total),
    version: Number(order.version),
    placedAt,
    changedAt,
  };
}

function lineTextOf({ sku, quantity, unitPrice }: OrderLine): Static<typeof LineSchema> {
  return { sku, quantity, unitPrice: formatAmount(unitPrice) };
}
