/** Which topics the outbox's events are in: what a count, or a relay that begins anew, has to read. */
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import type { Queryable } from '../postgres/connection.ts';

/** Topics of the configuration and of every aggregatetype that has events, each with its dead-letter topic; not all need exist. */
export async function readEventTopics(db: Queryable, routes: TopicRoutes): Promise<string[]> {
  const { rows } = await db.query<{ aggregatetype: string }>('select distinct aggregatetype from ferry.outbox');
  const topics = new Set([routes.unrouted, ...routes.configured()]);
  for (const { aggregatetype } of rows) topics.add(routes.tryTopicOf(aggregatetype) ?? routes.unrouted);
  return [...topics].flatMap((topic) => [topic, deadLetterTopic(topic)]);
}
