/**
 * The body of a control message `release`: publish what the relay has parked of a key, or one dead letter that holds nobody up. Written by
 * whoever operates, read by the relay at its place in the WAL.
 */
import * as v from 'valibot';

export interface ReleaseMessage {
  /** A UUID; the records that come of it carry it. */
  readonly id: string;
  /** Where the events belong, not the dead-letter topic. */
  readonly topic: string;
  /** The record's key: the aggregate's id. */
  readonly key: string;
  /** Who asked for it. */
  readonly by: string;
  /** Parked events that are given up: taken off the list, and not published. */
  readonly skip: readonly string[];
  /**
   * The one dead letter that is meant; null: what is parked of the key. If it is parked, its key is released; else it alone is published. One,
   * because one is published whole or not at all.
   */
  readonly event: string | null;
}

const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/));
const Body = v.object({
  v: v.literal(1),
  id: Id,
  topic: v.pipe(v.string(), v.minLength(1)),
  key: v.string(),
  by: v.string(),
  skip: v.optional(v.array(Id)),
  events: v.optional(v.pipe(v.array(Id), v.length(1))),
});

export function encodeRelease(message: ReleaseMessage): string {
  const { skip, event, ...rest } = message;
  return JSON.stringify({
    v: 1,
    ...rest,
    ...(skip.length === 0 ? {} : { skip }),
    ...(event === null ? {} : { events: [event] }),
  });
}

/** Null for what this version cannot read. */
export function decodeRelease(body: string): ReleaseMessage | null {
  let read: unknown;
  try {
    read = JSON.parse(body);
  } catch {
    return null;
  }
  if (!v.is(Body, read)) return null;
  const { id, topic, key, by, skip = [], events } = read;
  return { id, topic, key, by, skip, event: events?.[0] ?? null };
}
