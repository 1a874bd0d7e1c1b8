/** Where a replay may publish beside the events' own topics: in a topic that nobody takes for something else. */
import { isKeptTopic, isLegalTopic, type TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';

/**
 * Throws REPLAY_TOPIC_INVALID for what can be told by the name and the configuration: an event's topic, a dead-letter topic, one of Kafka's
 * or Ferry's own. What else is written to it is not known here.
 */
export function checkSideTopic(topic: string, routes: TopicRoutes, prefix: string): void {
  if (!isLegalTopic(topic)) throw refused(topic, 'is no legal name of a topic');
  const events = [routes.unrouted, ...routes.configured()];
  if (events.includes(topic)) throw refused(topic, 'is a topic of events');
  if (isKeptTopic(topic, prefix)) throw refused(topic, 'is kept for dead letters, Kafka or Ferry itself');
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
