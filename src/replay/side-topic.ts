/** Where a replay may publish beside the events' own topics: in a topic that nobody takes for something else. */
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';

/** Names that Kafka, registries and Ferry keep for themselves, behind the prefix too. */
const KEPT = /^(__|_schemas$|ferry\.)/;
const LEGAL = /^[a-zA-Z0-9._-]{1,240}$/;

/**
 * Throws REPLAY_TOPIC_INVALID for what can be told by the name and the configuration: an event's topic, a dead-letter topic, one of Kafka's
 * or Ferry's own. What else is written to it is not known here.
 */
export function checkSideTopic(topic: string, routes: TopicRoutes, prefix: string): void {
  if (!LEGAL.test(topic) || topic === '.' || topic === '..') throw refused(topic, 'is no legal name of a topic');
  const events = [routes.unrouted, ...routes.configured()];
  if (topic.endsWith(deadLetterTopic(''))) throw refused(topic, 'is a dead-letter topic');
  if (events.includes(topic)) throw refused(topic, 'is a topic of events');
  if (KEPT.test(topic) || (topic.startsWith(prefix) && KEPT.test(topic.slice(prefix.length)))) {
    throw refused(topic, 'is kept for Kafka or Ferry itself');
  }
}

/** As `checkSideTopic`, by the outbox: an aggregatetype that no route names goes to the topic of its own name. Reads the whole outbox. */
export async function checkAgainstOutbox(
  db: Queryable,
  topic: string,
  routes: TopicRoutes,
  prefix: string,
): Promise<void> {
  if (!topic.startsWith(prefix)) return;
  const aggregateType = topic.slice(prefix.length);
  if (routes.tryTopicOf(aggregateType) !== topic) return;
  const { rows } = await db.query<{ used: boolean }>(
    'select exists (select from ferry.outbox where aggregatetype = $1) as used',
    [aggregateType],
  );
  if (rows[0]?.used === true) throw refused(topic, 'is a topic of events');
}

function refused(topic: string, why: string): FerryError {
  return new FerryError('REPLAY_TOPIC_INVALID', `a replay cannot go to topic ${topic}: it ${why}`, {
    details: { path: '/topic' },
  });
}
