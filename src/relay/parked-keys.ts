/**
 * Which keys wait behind an event that cannot be published, and which of their events. Pure: what changes here goes out as a record of a
 * compacted topic, in the Kafka transaction of the dead letter or the publication that it tells of, and is read back at the next start.
 */
import * as v from 'valibot';
import type { Position } from '../events/outbox-event.ts';
import type { OutgoingRecord } from '../events/record.ts';
import { FerryError } from '../kernel/errors.ts';
import { formatLsn, parseLsn } from '../kernel/lsn.ts';

export interface ParkedEvent {
  /** Its place among the key's: grows by one, and begins at one when the key is parked anew. */
  readonly ordinal: number;
  readonly eventId: string;
  readonly aggregateType: string;
  /** Error code: its own, or KEY_PARKED. */
  readonly code: string;
  /** The event that it waits behind; null for one that cannot be published itself. */
  readonly blockedBy: string | null;
  readonly position: Position;
}

export interface ParkedKey {
  readonly topic: string;
  readonly key: string;
  /** In their order, never empty. The first is what the others wait behind. */
  readonly events: readonly ParkedEvent[];
}

export interface ParkedBounds {
  readonly maxEventsPerKey: number;
  readonly maxEvents: number;
}

/** One record of the parked topic as it was read. */
export interface ParkedRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

interface Held extends ParkedKey {
  readonly events: ParkedEvent[];
  /** Released events are in front of it: shifting an array of thousands for each would cost as many moves. */
  first: number;
  /** Topics under which it is found: its own, and those of its aggregates now. */
  readonly topics: Set<string>;
}

const LsnText = v.pipe(v.string(), v.regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/));
const Ordinal = v.pipe(v.number(), v.integer(), v.minValue(1));
const RecordKey = v.tuple([v.string(), v.string(), Ordinal]);
const RecordValue = v.object({
  v: v.literal(1),
  event_id: v.string(),
  aggregate_type: v.string(),
  code: v.string(),
  blocked_by: v.nullable(v.string()),
  lsn: LsnText,
  seq: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

export class ParkedKeys {
  readonly #topic: string;
  readonly #bounds: ParkedBounds;
  /** topic → key → what is held; a topic without any has no entry. */
  readonly #held = new Map<string, Map<string, Held>>();
  #keys = 0;
  #events = 0;

  /** `topic` is the one that the records go to. */
  constructor(topic: string, bounds: ParkedBounds) {
    this.#topic = topic;
    this.#bounds = bounds;
  }

  /**
   * Takes up what a relay left: all records of the topic, oldest first. `topicOf` says where an aggregatetype's events go now: a key whose
   * events went elsewhere when it was parked is held there too, so that newer events do not overtake it. Throws RELAY_CONFIGURATION for a
   * record that this version cannot read.
   */
  static async load(
    topic: string,
    bounds: ParkedBounds,
    records: AsyncIterable<ParkedRecord>,
    topicOf: (aggregateType: string) => string,
  ): Promise<ParkedKeys> {
    const parked = new ParkedKeys(topic, bounds);
    const found = new Map<string, { topic: string; key: string; event: ParkedEvent }>();
    for await (const record of records) {
      const text = record.key?.toString() ?? '';
      if (record.value === null) found.delete(text);
      else found.set(text, decodeRecord(text, record.value));
    }
    const inOrder = [...found.values()].sort((a, b) => a.event.ordinal - b.event.ordinal);
    for (const { topic: eventTopic, key, event } of inOrder) {
      const held = parked.#find(eventTopic, key) ?? parked.#hold(eventTopic, key);
      held.events.push(event);
      parked.#events += 1;
    }
    for (const keys of [...parked.#held.values()]) {
      for (const held of [...keys.values()]) {
        for (const { aggregateType } of held.events) parked.#alias(held, topicOf(aggregateType));
      }
    }
    return parked;
  }

  get keyCount(): number {
    return this.#keys;
  }

  get eventCount(): number {
    return this.#events;
  }

  /** Nothing is parked: the path of nearly every event goes no further. */
  get empty(): boolean {
    return this.#keys === 0;
  }

  /** What is held of the key, or undefined. A snapshot for reading: `remove` changes it. */
  find(topic: string, key: string): ParkedKey | undefined {
    const held = this.#find(topic, key);
    return held === undefined ? undefined : snapshotOf(held);
  }

  /** The event that the key waits behind; null if it is not parked. */
  blocker(topic: string, key: string): ParkedEvent | null {
    const held = this.#find(topic, key);
    return held?.events[held.first] ?? null;
  }

  /** The topic whose name a parked key bears: where it is found by another one's too, that of the first that was parked. */
  homeOf(topic: string, key: string): string {
    return this.#find(topic, key)?.topic ?? topic;
  }

  *keys(): Iterable<ParkedKey> {
    for (const [topic, keys] of this.#held) {
      for (const held of keys.values()) {
        if (held.topic === topic) yield snapshotOf(held);
      }
    }
  }

  /**
   * Puts an event behind those that wait, or parks the key with it; the record goes out with its dead letter. A key that is parked under
   * another name than its events' topic (`home`) is found by both. Throws RELAY_PARKED_FULL beyond the bounds.
   */
  park(
    topic: string,
    key: string,
    event: Omit<ParkedEvent, 'ordinal'>,
    home = topic,
  ): { ordinal: number; record: OutgoingRecord } {
    const { maxEvents, maxEventsPerKey } = this.#bounds;
    const known = this.#find(topic, key) ?? this.#find(home, key);
    const waiting = known === undefined ? 0 : known.events.length - known.first;
    if (waiting >= maxEventsPerKey || this.#events >= maxEvents) {
      const what = waiting >= maxEventsPerKey ? `${waiting} events of one key` : `${this.#events} events`;
      const behind = known?.events[known.first]?.eventId ?? event.eventId;
      throw new FerryError('RELAY_PARKED_FULL', `${what} are parked, and event ${event.eventId} would be one more`, {
        details: { topic, eventId: event.eventId, blockedBy: behind },
      });
    }
    const held = known ?? this.#hold(home, key);
    this.#alias(held, topic);
    const entry = { ...event, ordinal: (held.events.at(-1)?.ordinal ?? 0) + 1 };
    held.events.push(entry);
    this.#events += 1;
    return { ordinal: entry.ordinal, record: this.#record(held, entry.ordinal, encodeValue(entry)) };
  }

  /** Takes the key's first event off the list; the tombstone goes out with what becomes of it. The key is free with its last one. */
  remove(topic: string, key: string, eventId: string): OutgoingRecord {
    const held = this.#find(topic, key);
    const event = held?.events[held.first];
    if (held === undefined || event?.eventId !== eventId)
      throw new Error(`event ${eventId} is not what its key waits behind`);
    held.first += 1;
    this.#events -= 1;
    if (held.first === held.events.length) this.#free(held);
    return this.#record(held, event.ordinal, null);
  }

  /** The key's first event cannot be published either: says so in its record. */
  refuse(topic: string, key: string, code: string): OutgoingRecord {
    const held = this.#find(topic, key);
    const event = held?.events[held.first];
    if (held === undefined || event === undefined) throw new Error('a key that is not parked cannot stay so');
    const refused = { ...event, code, blockedBy: null };
    held.events[held.first] = refused;
    return this.#record(held, event.ordinal, encodeValue(refused));
  }

  #find(topic: string, key: string): Held | undefined {
    return this.#held.get(topic)?.get(key);
  }

  #hold(topic: string, key: string): Held {
    const held: Held = { topic, key, events: [], first: 0, topics: new Set() };
    this.#keys += 1;
    this.#alias(held, topic);
    return held;
  }

  /** Another key that is held there stays what it is. */
  #alias(held: Held, topic: string): void {
    if (held.topics.has(topic)) return;
    let keys = this.#held.get(topic);
    if (keys === undefined) {
      keys = new Map();
      this.#held.set(topic, keys);
    }
    if (keys.has(held.key)) return;
    keys.set(held.key, held);
    held.topics.add(topic);
  }

  #free(held: Held): void {
    this.#keys -= 1;
    for (const topic of held.topics) {
      const keys = this.#held.get(topic);
      keys?.delete(held.key);
      if (keys?.size === 0) this.#held.delete(topic);
    }
  }

  #record({ topic, key }: ParkedKey, ordinal: number, value: Buffer | null): OutgoingRecord {
    return { topic: this.#topic, partition: 0, key: JSON.stringify([topic, key, ordinal]), value, headers: {} };
  }
}

function snapshotOf({ topic, key, events, first }: Held): ParkedKey {
  return { topic, key, events: events.slice(first) };
}

function encodeValue({ eventId, aggregateType, code, blockedBy, position }: ParkedEvent): Buffer {
  const place = { lsn: formatLsn(position.commitLsn), seq: position.seq };
  return Buffer.from(
    JSON.stringify({ v: 1, event_id: eventId, aggregate_type: aggregateType, code, blocked_by: blockedBy, ...place }),
  );
}

function decodeRecord(keyText: string, bytes: Buffer): { topic: string; key: string; event: ParkedEvent } {
  const place = parseJson(keyText);
  const value = parseJson(bytes.toString());
  if (!v.is(RecordKey, place) || !v.is(RecordValue, value)) {
    throw new FerryError(
      'RELAY_CONFIGURATION',
      'the topic of the parked keys holds a record that this version of Ferry cannot read',
    );
  }
  const [topic, key, ordinal] = place;
  const { event_id: eventId, aggregate_type: aggregateType, code, blocked_by: blockedBy, lsn, seq } = value;
  const position = { commitLsn: parseLsn(lsn), seq };
  return { topic, key, event: { ordinal, eventId, aggregateType, code, blockedBy, position } };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
