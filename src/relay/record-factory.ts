/**
 * Makes Kafka records of outbox events: encoded by the registry's schema, or, when they cannot be, dead letters. Never throws for what an
 * event holds, unless its tier says halt: a poison event must not stop the slot. What waits behind one goes where it went.
 */
import type { EventTiers } from '../config/tiers.ts';
import {
  type EncodeRefusal,
  type EncodeResult,
  type EventEncoder,
  encodeFresh,
  type RefreshOptions,
} from '../events/encoder.ts';
import type { OutboxEvent, Position } from '../events/outbox-event.ts';
import { partitionOf } from '../events/partition.ts';
import { eventHeaders, HEADER, type OutgoingRecord, recordBytes, replayHeaders } from '../events/record.ts';
import type { ReplayMessage } from '../events/replay-message.ts';
import { deadLetterTopic, type TopicRoutes } from '../events/routes.ts';
import { FerryError } from '../kernel/errors.ts';
import type { BatchEntry, LedgerNote } from './batch.ts';
import { type Casualty, casualtyOf, makeDeadLetter } from './dead-letter-record.ts';
import type { ParkedEvent, ParkedKeys } from './parked-keys.ts';
import type { TopicDirectory } from './topic-directory.ts';

export interface RecordFactoryOptions {
  readonly encoder: EventEncoder;
  readonly routes: TopicRoutes;
  readonly topics: TopicDirectory;
  readonly parked: ParkedKeys;
  readonly tiers: EventTiers;
  readonly source: string;
  readonly maxEventBytes: number;
}

/** A row of the outbox that is no event. */
export interface MalformedRow {
  readonly id: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly refusal: EncodeRefusal;
  readonly original: Buffer;
}

/** An event that cannot be published as it is, and where it would have gone. */
export interface Refused {
  readonly topic: string;
  readonly refusal: EncodeRefusal;
}

/** What Kafka said of a topic. */
interface TopicRefusal {
  readonly refusal: EncodeRefusal;
  /** By performance.now(). */
  readonly askedAtMs: number;
}

/** For so long Kafka is not asked again for a topic that it refused: events of it may come by the thousand. */
const REFUSED_FOR_MS = 1_000;
const MAX_REFUSED = 10_000; // writers choose the names: bounded

export class RecordFactory {
  readonly #options: RecordFactoryOptions;
  readonly #refused = new Map<string, TopicRefusal>();

  constructor(options: RecordFactoryOptions) {
    this.#options = options;
  }

  /** The entry, if that needs nothing but memory; null if `make` must be awaited. This is the path of nearly every event. */
  tryMake(event: OutboxEvent, position: Position): BatchEntry | null {
    const { routes, topics, parked, encoder } = this.#options;
    const topic = routes.tryTopicOf(event.aggregateType);
    if (topic === null) return null;
    if (!parked.empty && parked.blocker(topic, event.aggregateId) !== null) return null;
    const partitions = topics.partitions(topic);
    if (partitions === undefined) return null;
    const encoded = encoder.encode(event, topic);
    return encoded.ok ? this.#entry(event, position, topic, partitions, encoded, {}) : null;
  }

  /**
   * The entry, or its dead letter, also when its key is parked. Rejects when something is unreachable, and then the event waits; with
   * RELAY_POISON_HALT or RELAY_PARKED_FULL when nothing may go on.
   */
  async make(event: OutboxEvent, position: Position): Promise<BatchEntry> {
    const { parked, source } = this.#options;
    const topic = this.#topicOf(event);
    const blocker = parked.blocker(topic, event.aggregateId);
    const made = blocker === null ? await this.publish(event, position) : { topic, refusal: behind(blocker) };
    if ('record' in made) return made;
    return this.#setAside(casualtyOf(event, position, source), position, made, blocker);
  }

  /**
   * The entry of an event that is published once more: under the subject of its own topic, also where it goes to a side topic; or its dead
   * letter, beside those of its own topic. That is no dead letter of the event itself, which was published before, so it parks no key; but
   * a key that is parked gets nothing from it. Rejects only when something is unreachable.
   */
  async makeReplayed(message: ReplayMessage, position: Position): Promise<BatchEntry> {
    const { parked, source } = this.#options;
    const event = { ...message.event, headers: { ...message.event.headers, ...replayHeaders(message) } };
    const { id: eventId, traceparent } = event;
    const topic = this.#topicOf(event);
    const blocker = message.topic === null ? parked.blocker(topic, event.aggregateId) : null;
    const made =
      blocker === null ? await this.#publishAgain(event, message.topic, position) : { topic, refusal: behind(blocker) };
    if ('record' in made) return { ...made, byControl: true };
    const owner = { group: null, blockedBy: blocker?.eventId ?? null };
    const casualty = casualtyOf(event, position, source);
    const letterTopic = await this.#letterTopic(made.topic);
    const record = await makeDeadLetter(this.#options, casualty, position, letterTopic, made.refusal, owner);
    const place = { position, doneSeq: position.seq, byControl: true };
    return { record, state: null, bytes: recordBytes(record), eventId, traceparent, ...place, note: null };
  }

  async #publishAgain(event: OutboxEvent, sideTopic: string | null, position: Position): Promise<BatchEntry | Refused> {
    const { routes, encoder, topics } = this.#options;
    const topic = routes.tryTopicOf(event.aggregateType);
    if (sideTopic === null || topic === null) return this.publish(event, position);
    const encoded = await encodeFresh(encoder, event, topic);
    if (!encoded.ok) return { topic, refusal: encoded.refusal };
    try {
      const partitions = await topics.meetAside(sideTopic);
      const entry = this.#entry(event, position, sideTopic, partitions, encoded, {});
      return entry ?? { topic, refusal: this.#tooLarge() };
    } catch (error) {
      // A side topic that was made unfit is no reason to stop what is live.
      if (!(error instanceof FerryError) || error.retryable) throw error;
      const { code, message } = error;
      return { topic, refusal: { code, message, path: null } };
    }
  }

  /** The dead letter of a row that could not even be read as an event. */
  async makeMalformed(row: MalformedRow, position: Position): Promise<BatchEntry> {
    const { parked } = this.#options;
    const { refusal, ...identity } = row;
    const topic = this.#topicOf(row);
    // without its id a reset would not find that Kafka holds it, and publish it again
    const casualty = { ...identity, type: null, traceparent: null, headers: { [HEADER.id]: row.id } };
    return this.#setAside(casualty, position, { topic, refusal }, parked.blocker(topic, row.aggregateId));
  }

  /** The entry, whatever is parked, or why there is none. `freshSinceMs`: see RefreshOptions. Rejects only when something is unreachable. */
  async publish(
    event: OutboxEvent,
    position: Position,
    { headers = {}, freshSinceMs }: { headers?: Readonly<Record<string, string>> } & RefreshOptions = {},
  ): Promise<BatchEntry | Refused> {
    const { routes, encoder } = this.#options;
    const topic = routes.tryTopicOf(event.aggregateType);
    if (topic === null) return { topic: routes.unrouted, refusal: NO_TOPIC };
    const encoded = await encodeFresh(encoder, event, topic, freshSinceMs === undefined ? {} : { freshSinceMs });
    if (!encoded.ok) return { topic, refusal: encoded.refusal };
    const partitions = await this.#meet(topic, freshSinceMs);
    if (typeof partitions !== 'number') return { topic: routes.unrouted, refusal: partitions };
    const entry = this.#entry(event, position, topic, partitions, encoded, headers);
    return entry ?? { topic, refusal: this.#tooLarge() };
  }

  /** The record of a dead letter that could not be published on its release either. */
  async deadLetterAgain(
    event: OutboxEvent,
    position: Position,
    { topic, refusal }: Refused,
    headers: Readonly<Record<string, string>>,
  ): Promise<OutgoingRecord> {
    const casualty = casualtyOf(event, position, this.#options.source);
    const marked = { ...casualty, headers: { ...casualty.headers, ...headers } };
    const letterTopic = await this.#letterTopic(topic);
    return makeDeadLetter(this.#options, marked, position, letterTopic, refusal, { group: null, blockedBy: null });
  }

  /** Where its events go, as far as names tell. */
  #topicOf({ aggregateType }: { readonly aggregateType: string }): string {
    const { routes } = this.#options;
    return routes.tryTopicOf(aggregateType) ?? routes.unrouted;
  }

  /**
   * Partitions of the topic, or why Kafka does not let us have it: to wait for that would stop every other event. Rejects when something is
   * unreachable. `freshSinceMs`: what Kafka said before does not count.
   */
  async #meet(topic: string, freshSinceMs = -Infinity): Promise<number | EncodeRefusal> {
    const { topics } = this.#options;
    const known = topics.partitions(topic);
    if (known !== undefined) return known;
    const before = this.#refused.get(topic);
    const askedAtMs = performance.now();
    if (before !== undefined && before.askedAtMs > Math.max(freshSinceMs, askedAtMs - REFUSED_FOR_MS))
      return before.refusal;
    try {
      return await topics.meet(topic);
    } catch (error) {
      if (!(error instanceof FerryError) || error.code !== 'TOPIC_REFUSED') throw error;
      const refusal: EncodeRefusal = { code: error.code, message: error.message, path: null };
      if (this.#refused.size < MAX_REFUSED) this.#refused.set(topic, { refusal, askedAtMs });
      return refusal;
    }
  }

  /** Whose dead letters it is among: its topic's, or those without a topic where Kafka does not let us have the one for that. */
  async #letterTopic(topic: string): Promise<string> {
    const met = await this.#meet(deadLetterTopic(topic));
    return typeof met === 'number' ? topic : this.#options.routes.unrouted;
  }

  /** Null if the record is too large with its headers. */
  #entry(
    event: OutboxEvent,
    position: Position,
    topic: string,
    partitions: number,
    encoded: EncodeResult & { ok: true },
    extraHeaders: Readonly<Record<string, string>>,
  ): BatchEntry | null {
    const { value, schemaId, subject } = encoded;
    const schema = schemaId === null || subject === null ? null : { id: schemaId, subject };
    const headers = eventHeaders(event, position, this.#options.source, schema);
    for (const name in extraHeaders) headers[name] = extraHeaders[name] ?? '';
    const { aggregateId: key, id: eventId, traceparent } = event;
    const record = { topic, partition: partitionOf(key, partitions), key, value, headers };
    const bytes = recordBytes(record);
    if (bytes > this.#options.maxEventBytes) return null;
    const place = { position, doneSeq: position.seq, byControl: false };
    return { record, state: null, bytes, eventId, traceparent, ...place, note: null };
  }

  /** By the policy of its tier; whatever that is, an event of a parked key is parked too, and is where the others of its key are. */
  async #setAside(
    casualty: Casualty,
    position: Position,
    { topic, refusal }: Refused,
    blocker: ParkedEvent | null,
  ): Promise<BatchEntry> {
    const { parked, tiers } = this.#options;
    const { id: eventId, aggregateId: key, aggregateType, traceparent } = casualty;
    const policy = blocker === null ? tiers.of(casualty.type ?? '').poison : 'park';
    if (policy === 'halt') throw halt(casualty, topic, refusal);
    const { code } = refusal;
    const blockedBy = blocker?.eventId ?? null;
    const own = this.#topicOf(casualty);
    const home = blocker === null ? await this.#letterTopic(topic) : parked.homeOf(own, key);
    const record = await makeDeadLetter(this.#options, casualty, position, home, refusal, { group: null, blockedBy });
    const about = { eventId, aggregateType, code, blockedBy, position };
    const place = policy === 'park' ? parked.park(own, key, about, home) : null;
    const state = place?.record ?? null;
    const note: LedgerNote = {
      kind: 'dead-letter',
      code,
      topic: home,
      key,
      ordinal: place?.ordinal ?? null,
      blockedBy,
    };
    const bytes = recordBytes(record) + (state === null ? 0 : recordBytes(state));
    return { record, state, bytes, eventId, traceparent, position, doneSeq: position.seq, byControl: false, note };
  }

  #tooLarge(): EncodeRefusal {
    const message = `the record with its headers is larger than MAX_EVENT_BYTES (${this.#options.maxEventBytes})`;
    return { code: 'EVENT_TOO_LARGE', message, path: null };
  }
}

const NO_TOPIC: EncodeRefusal = {
  code: 'TOPIC_INVALID',
  message:
    'the aggregatetype leads to a topic name that is not legal, or is kept for Kafka, registries, Ferry or dead letters',
  path: null,
};

function behind(blocker: ParkedEvent): EncodeRefusal {
  return { code: 'KEY_PARKED', message: `an earlier event of this key (${blocker.eventId}) is parked`, path: null };
}

function halt({ id, type }: Casualty, topic: string, { code, message }: EncodeRefusal): FerryError {
  const what = `event ${id} (${type ?? 'of no known type'}) cannot be published: ${code}: ${message}`;
  return new FerryError('RELAY_POISON_HALT', what, { details: { eventId: id, topic, code } });
}
