/** Which topic an aggregate's events go to, and which subject their schema has. */
import { parsePairs } from '../config/load.ts';
import type { Config } from '../config/variables.ts';
import { FerryError } from '../kernel/errors.ts';

export type SubjectNaming = 'topic-record' | 'topic' | 'record';

const TOPIC_NAME = /^[a-zA-Z0-9._-]{1,240}$/; // Kafka allows 249; nine are kept for suffixes such as `.dlq`
const DEAD_LETTERS = '.dlq';
const KEPT_BY_OTHERS = /^(__|_schemas$)/;
const KEPT = /^(__|_schemas$|ferry\.)/;

export function isLegalTopic(topic: string): boolean {
  return TOPIC_NAME.test(topic) && topic !== '.' && topic !== '..';
}

/**
 * Whether Kafka, a registry or Ferry keeps the name for itself, behind the prefix too, or it is a dead-letter topic's: an event there is
 * refused by Kafka, or taken for something else by whoever reads it.
 */
export function isKeptTopic(topic: string, prefix: string): boolean {
  const own = topic.startsWith(prefix) ? topic.slice(prefix.length) : topic; // a prefix may itself begin with `ferry.`
  return KEPT_BY_OTHERS.test(topic) || KEPT.test(own) || topic.endsWith(DEAD_LETTERS);
}

export class TopicRoutes {
  readonly #prefix: string;
  readonly #routes: ReadonlyMap<string, string>;
  readonly #topics = new Map<string, string>();

  /** `routes` maps an aggregatetype to its topic; one that is not listed goes to the topic of its own name. */
  constructor(prefix: string, routes: ReadonlyMap<string, string>) {
    this.#prefix = prefix;
    this.#routes = routes;
  }

  /** The topic of an aggregatetype. Throws TOPIC_INVALID if Kafka would refuse the name, or it is kept for something else. */
  topicOf(aggregateType: string): string {
    const known = this.#topics.get(aggregateType);
    if (known !== undefined) return known;
    const topic = this.#prefix + (this.#routes.get(aggregateType) ?? aggregateType);
    const about = `aggregatetype ${JSON.stringify(aggregateType)} leads to`;
    if (!isLegalTopic(topic)) throw new FerryError('TOPIC_INVALID', `${about} no legal topic name`);
    if (isKeptTopic(topic, this.#prefix)) throw new FerryError('TOPIC_INVALID', `${about} a topic name that is kept`);
    if (this.#topics.size < 10_000) this.#topics.set(aggregateType, topic); // writers choose the key: bounded
    return topic;
  }

  /** As `topicOf`, or null where it throws. */
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

  /** Where events go whose aggregatetype has no topic. */
  get unrouted(): string {
    return `${this.#prefix}unrouted`;
  }
}

/** Topics by the configuration's prefix and routes. Throws CONFIG_INVALID. */
export function topicRoutes(config: Pick<Config, 'TOPIC_PREFIX' | 'TOPIC_ROUTES'>): TopicRoutes {
  return new TopicRoutes(config.TOPIC_PREFIX, parsePairs('TOPIC_ROUTES', config.TOPIC_ROUTES));
}

export function deadLetterTopic(topic: string): string {
  return topic + DEAD_LETTERS;
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
