/** The names of the example module's consumers, apart from their code: who only has to know the names does not load it. */
import type { OwnDatabaseName } from '../../config/databases.ts';

export const CONSUMER_ROLES = ['projection', 'sagas', 'order', 'payment', 'inventory', 'shipping'] as const;
export type ConsumerRole = (typeof CONSUMER_ROLES)[number];

/** The aggregatetypes under which participants that may have a database of their own answer: nobody else writes events of these. */
export const ANSWERS = { payment: 'payment', inventory: 'inventory', shipping: 'shipment' } as const satisfies Record<
  OwnDatabaseName,
  string
>;
