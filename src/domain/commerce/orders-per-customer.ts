/** The example projection: what each customer ordered and cancelled, per currency, kept from the events of the commerce module. */
import type { OrderCancelled, OrderPlaced } from '../../events/generated/payloads.ts';
import type { TopicRoutes } from '../../events/routes.ts';
import type { ConsumedEvent } from '../../inbox/consumed-event.ts';
import { type ConsumerSettings, EventConsumer, type EventConsumerParts } from '../../inbox/event-consumer.ts';
import { type AnyHandler, handlerMap } from '../../inbox/handler.ts';
import type { Queryable } from '../../postgres/connection.ts';

/** What is counted of an order; both events say it, and their schemas guarantee it. */
type OrderFacts = Pick<OrderPlaced & OrderCancelled, 'customerId' | 'currency' | 'total'>;

export interface ProjectionOptions extends EventConsumerParts {
  readonly routes: TopicRoutes;
  /** TOPIC_PREFIX: two Ferrys on one cluster are two groups. */
  readonly topicPrefix: string;
  readonly settings?: Partial<Omit<ConsumerSettings, 'onPoison'>>;
}

/** Batches meet at the same customers: more workers would only wait for each other. */
const CONCURRENCY = 2;

/** What the projection reads, and as which group: `<topic prefix>orders-per-customer`. */
export function ordersPerCustomerSource(routes: TopicRoutes, topicPrefix: string): { group: string; topics: string[] } {
  return { group: `${topicPrefix}orders-per-customer`, topics: [routes.topicOf('order')] };
}

/** The projection's consumer, not started. */
export function ordersPerCustomer({ routes, topicPrefix, settings, ...parts }: ProjectionOptions): EventConsumer {
  return new EventConsumer({
    ...parts,
    ...ordersPerCustomerSource(routes, topicPrefix),
    handlers: PROJECTION,
    settings: { concurrency: CONCURRENCY, ...settings, onPoison: 'dead-letter' }, // sums do not depend on the order of events
  });
}

/** Counts order events; tombstones are left alone. Sums do not depend on the order in which partitions are read. */
async function projectOrders(events: ReadonlyArray<ConsumedEvent<OrderFacts | null>>, tx: Queryable): Promise<void> {
  const counted = events.flatMap(({ type, value }) => {
    const countedAs = type === 'commerce.OrderPlaced' ? 'placed' : 'cancelled';
    return value === null ? [] : [{ countedAs, ...value }];
  });
  if (counted.length === 0) return;
  // Rows are locked in the order of their keys, the same for every member: none waits for another in a circle.
  await tx.query(
    `insert into commerce.orders_per_customer as kept
            (customer_id, currency, placed, placed_total, cancelled, cancelled_total)
     select customer_id, currency,
            count(*) filter (where counted_as = 'placed'), coalesce(sum(total) filter (where counted_as = 'placed'), 0),
            count(*) filter (where counted_as = 'cancelled'), coalesce(sum(total) filter (where counted_as = 'cancelled'), 0)
     from unnest($1::text[], $2::text[], $3::text[], $4::numeric[]) as event(counted_as, customer_id, currency, total)
     group by customer_id, currency order by customer_id, currency
     on conflict (customer_id, currency) do update
     set placed = kept.placed + excluded.placed, placed_total = kept.placed_total + excluded.placed_total,
         cancelled = kept.cancelled + excluded.cancelled, cancelled_total = kept.cancelled_total + excluded.cancelled_total`,
    [
      counted.map(({ countedAs }) => countedAs),
      counted.map(({ customerId }) => customerId),
      counted.map(({ currency }) => currency),
      counted.map(({ total }) => total),
    ],
  );
}

const orderHandler = { handleBatch: projectOrders };

const PROJECTION: ReadonlyMap<string, AnyHandler> = handlerMap({
  'commerce.OrderPlaced': orderHandler,
  'commerce.OrderCancelled': orderHandler,
});
