/** Which topic an aggregate's events go to, and which subject their schema has. */
import { parsePairs } from '../config/load.ts';
import type { Config } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';

export type SubjectNaming = 'topic-record' | 'topic' | 'record';

const TOPIC_NAME = /^[a-zA-Z0-9._-]{1,240}$/; // Kafka allows 249; nine are kept for suffixes such as `.dlq`

export class TopicRoutes {
  readonly #prefix: string;
  readonly #routes: ReadonlyMap<string, string>;
  readonly #topics = new Map<string, string>();

  /** `routes` maps an aggregatetype to its topic; one that is not listed goes to the topic of its own name. */
  constructor(prefix: string, routes: ReadonlyMap<string, string>) {
    this.#prefix = prefix;
    this.#routes = routes;
  }

  /** The topic of an aggregatetype. Throws TOPIC_INVALID if Kafka would refuse the name. */
  topicOf(aggregateType: string): string {
    const known = this.#topics.get(aggregateType);
    if (known !== undefined) return known;
    const topic = this.#prefix + (this.#routes.get(aggregateType) ?? aggregateType);
    if (!TOPIC_NAME.test(topic) || topic === '.' || topic === '..') {
      throw new FerryError(
        'TOPIC_INVALID',
        `aggregatetype ${JSON.stringify(aggregateType)} leads to no legal topic name`,
      );
    }
    if (this.#topics.size < 10_000) this.#topics.set(aggregateType, topic); // writers choose the key: bounded
    return topic;
  }

  /** As `topicOf`, or null where Kafka would refuse the name. */
  tryTopicOf(aggregateType: string): string | null {
    try {
      return this.topicOf(aggregateType);
    } catch (error) {
      if (error instanceof FerryError && error.code === 'TOPIC_INVALID') return null;
      throw error;
    }
  }

  /** The topics named in the configuration, dead letters not included. */
  configured(): string[] {
    return [...new Set([...this.#routes.keys()].map((type) => this.topicOf(type)))];
  }

  /** Where events go whose aggregatetype has no legal topic. */
  get unrouted(): string {
    return `${this.#prefix}unrouted`;
  }
}

/** Topics by the configuration's prefix and routes. Throws CONFIG_INVALID. */
export function topicRoutes(config: Pick<Config, 'TOPIC_PREFIX' | 'TOPIC_ROUTES'>): TopicRoutes {
  return new TopicRoutes(config.TOPIC_PREFIX, parsePairs('TOPIC_ROUTES', config.TOPIC_ROUTES));
}

export function deadLetterTopic(topic: string): string {
  return `${topic}.dlq`;
}

/** Confluent's subject name strategies: TopicRecordName, TopicName, RecordName. */
export function subjectOf(naming: SubjectNaming, topic: string, type: string): string {
  switch (naming) {
    case 'topic-record':
      return `${topic}-${type}`;
    case 'topic':
      return `${topic}-value`;
    case 'record':
      return type;
  }
}
