/** The example projection: what each customer ordered and cancelled, per currency, kept from the events of the commerce module. */
import type { OrderCancelled, OrderPlaced } from '../events/generated/payloads.ts';
import type { TopicRoutes } from '../events/routes.ts';
import type { Queryable } from '../postgres/connection.ts';
import type { ConsumedEvent } from './consumed-event.ts';
import { type EventConsumer, type EventConsumerOptions, startEventConsumer } from './event-consumer.ts';

/** What is counted of an order; both events say it, and their schemas guarantee it. */
type OrderFacts = Pick<OrderPlaced & OrderCancelled, 'customerId' | 'currency' | 'total'>;

export interface ProjectionOptions extends Omit<EventConsumerOptions, 'group' | 'topics' | 'handler'> {
  readonly routes: TopicRoutes;
  /** TOPIC_PREFIX: two Ferrys on one cluster are two groups. */
  readonly topicPrefix: string;
}

/** Starts the projection; its group is `<topic prefix>orders-per-customer`. */
export function startOrdersPerCustomer({ routes, topicPrefix, ...options }: ProjectionOptions): EventConsumer {
  return startEventConsumer({
    ...options,
    group: `${topicPrefix}orders-per-customer`,
    topics: [routes.topicOf('order')],
    handler: projectOrder,
  });
}

/** Counts an order event; others are left alone. Sums do not depend on the order in which partitions are read. */
export async function projectOrder(tx: Queryable, event: ConsumedEvent): Promise<void> {
  if (event.value === null) return; // a tombstone says nothing of an order
  switch (event.type) {
    case 'commerce.OrderPlaced':
      return countOrder(tx, 'placed', event.value as OrderFacts);
    case 'commerce.OrderCancelled':
      return countOrder(tx, 'cancelled', event.value as OrderFacts);
  }
}

async function countOrder(tx: Queryable, what: 'placed' | 'cancelled', order: OrderFacts): Promise<void> {
  await tx.query(
    `insert into commerce.orders_per_customer as kept (customer_id, currency, ${what}, ${what}_total)
     values ($1, $2, 1, $3)
     on conflict (customer_id, currency) do update
     set ${what} = kept.${what} + 1, ${what}_total = kept.${what}_total + excluded.${what}_total`,
    [order.customerId, order.currency, order.total],
  );
}
