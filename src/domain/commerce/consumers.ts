/**
 * The example module's consumers by role: the projection, the four participants of the fulfilment, and the orchestrator that leads them. They
 * run in one process or each in its own; nothing passes between them but events.
 */
import type { Config } from '../../config/variables.ts';
import type { TopicRoutes } from '../../events/routes.ts';
import { type ConsumerSettings, EventConsumer, type EventConsumerParts } from '../../inbox/event-consumer.ts';
import { FerryError } from '../../kernel/errors.ts';
import type { EventWriter } from '../../outbox/event-writer.ts';
import type { Pool } from '../../postgres/connection.ts';
import { inventoryParticipant } from '../inventory/participant.ts';
import { ReservationSweeper, SWEEPER_DEFAULTS } from '../inventory/sweeper.ts';
import type { Participant, ParticipantParts } from '../participant.ts';
import { httpPaymentProvider } from '../payment/http-provider.ts';
import { paymentParticipant } from '../payment/participant.ts';
import { shippingParticipant } from '../shipping/participant.ts';
import { Orchestrator } from './orchestrator.ts';
import { ordersPerCustomer } from './orders-per-customer.ts';
import { orderParticipant } from './participant.ts';
import { ANSWERS, CONSUMER_ROLES, type ConsumerRole } from './roles.ts';

/** Something that runs until it is stopped. */
export interface Running {
  /** A promise if it may be refused; it rejects then. */
  start(): Promise<void> | void;
  stop(): Promise<void>;
}

export interface ConsumersParts extends Omit<EventConsumerParts, 'pool'> {
  readonly config: Config;
  /** Of the database that the role keeps its inbox and its own tables in. */
  readonly poolOf: (role: ConsumerRole) => Pool;
  readonly routes: TopicRoutes;
  readonly events: EventWriter;
}

/** Connections that the consumers of these roles use at once. */
export function connectionsOf(roles: ReadonlySet<string>): number {
  return 4 + CONSUMER_ROLES.filter((role) => roles.has(role)).length * 5;
}

/** What the roles run, not started. Throws CONFIG_INVALID if the payment's provider is not known. */
export function commerceConsumers(roles: ReadonlySet<string>, parts: ConsumersParts): Running[] {
  const running: Running[] = [];
  const { config, poolOf, logger } = parts;
  if (roles.has('projection')) {
    const topicPrefix = config.TOPIC_PREFIX;
    running.push(
      ordersPerCustomer({ ...parts, pool: poolOf('projection'), topicPrefix, settings: settingsOf(config) }),
    );
  }
  for (const [role, participant] of participantsOf(roles, parts)) running.push(consumerOf(role, participant, parts));
  if (roles.has('inventory')) {
    running.push(new ReservationSweeper({ ...SWEEPER_DEFAULTS, pool: poolOf('inventory'), logger }));
  }
  if (roles.has('sagas')) running.push(orchestratorOf(parts));
  return running;
}

function participantsOf(
  roles: ReadonlySet<string>,
  { config, routes, events }: ConsumersParts,
): Map<ConsumerRole, Participant> {
  const common: ParticipantParts = { events, routes, topicPrefix: config.TOPIC_PREFIX };
  const faultPercent = config.COMMERCE_FAULT_PERCENT;
  const reservationTtlMs = config.COMMERCE_RESERVATION_MINUTES * 60_000;
  const participants = new Map<ConsumerRole, Participant>();
  if (roles.has('order')) participants.set('order', orderParticipant(common));
  if (roles.has('payment'))
    participants.set('payment', paymentParticipant({ ...common, faultPercent, provider: providerOf(config) }));
  if (roles.has('inventory'))
    participants.set('inventory', inventoryParticipant({ ...common, faultPercent, reservationTtlMs }));
  if (roles.has('shipping')) participants.set('shipping', shippingParticipant({ ...common, faultPercent }));
  return participants;
}

function providerOf(config: Config) {
  const { PAYMENT_PROVIDER_URL: url, PAYMENT_PROVIDER_TIMEOUT_MS: timeoutMs } = config;
  if (url === undefined) {
    throw new FerryError('CONFIG_INVALID', 'PAYMENT_PROVIDER_URL is not set, and no embedded one runs in this home', {
      details: { variable: 'PAYMENT_PROVIDER_URL' },
    });
  }
  return httpPaymentProvider({ url, timeoutMs });
}

function consumerOf(role: ConsumerRole, participant: Participant, parts: ConsumersParts): EventConsumer {
  return new EventConsumer({
    ...parts,
    ...participant,
    pool: parts.poolOf(role),
    settings: { ...settingsOf(parts.config), ...participant.settings },
  });
}

/** The group is `<topic prefix>sagas`. */
function orchestratorOf(parts: ConsumersParts): Orchestrator {
  const { config, routes } = parts;
  return new Orchestrator({
    ...parts,
    pool: parts.poolOf('sagas'),
    group: `${config.TOPIC_PREFIX}sagas`,
    topics: ['order', ...Object.values(ANSWERS)].map((type) => routes.topicOf(type)),
    settings: settingsOf(config),
  });
}

function settingsOf(config: Config): Partial<ConsumerSettings> {
  return { inboxRetentionDays: config.INBOX_RETENTION_DAYS, sessionTimeoutMs: config.CONSUMER_SESSION_TIMEOUT_MS };
}
