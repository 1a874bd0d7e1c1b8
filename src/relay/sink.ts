/**
 * The port to where events go: a fenced writer whose transactions hold events and checkpoint together. One object for one session:
 * after any failure it is closed, and the next one reads the checkpoint again.
 */
import type { OutgoingRecord } from '../events/record.ts';
import type { Checkpoint, PinnedTopic } from './checkpoint.ts';
import type { ParkedRecord } from './parked-keys.ts';
import type { TopicDirectory } from './topic-directory.ts';

export interface Sink extends TopicDirectory {
  /** The newest checkpoint among what is decided; an open transaction, of a relay that still lives, is not waited for. */
  peek(): Promise<Checkpoint | null>;
  /**
   * From here on every older relay of this name is fenced and its open transaction decided. `prove` is awaited before each attempt and
   * rejects when the slot is no longer ours: a relay that lost it and fenced would stop the one that has it.
   */
  fence(prove: () => Promise<unknown>): Promise<void>;
  /** The checkpoint after `fence`, when nothing older can be committed any more. A time-out is an error, never "no checkpoint". */
  readCheckpoint(): Promise<Checkpoint | null>;
  /** Takes over the topics of a checkpoint. Rejects with RELAY_PARTITIONS_CHANGED if one is no longer what it was. */
  pin(topics: Checkpoint['topics']): Promise<void>;
  /** Ids of the events that the topics hold, as of now, topic by topic; topics that do not exist hold none. */
  publishedIds(topics: readonly string[]): AsyncIterable<PublishedId>;
  /** Where what is parked is kept (parked-keys.ts): one partition. */
  readonly parkedTopic: string;
  /** What it holds, oldest first, after `fence`. */
  readParked(): AsyncIterable<ParkedRecord>;
  /** The records of these events in the partition that the key has in a dead-letter topic, oldest first. */
  deadLetters(topic: string, key: string, ids: ReadonlySet<string>): AsyncIterable<DeadLetterRecord>;
  readonly topics: ReadonlyMap<string, PinnedTopic>;
  /** Commits the records and the checkpoint as one transaction. Any rejection leaves the outcome unknown and ends this sink. */
  commit(records: readonly OutgoingRecord[], checkpoint: Checkpoint, onSent: () => void): Promise<void>;
  close(): Promise<void>;
}

export interface PublishedId {
  readonly topic: string;
  readonly id: string;
}

export interface DeadLetterRecord {
  readonly id: string;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
}

/** Connects and fences nobody. `transactionalId` says who would be fenced: stable over restarts, unlike any other relay's. */
export type OpenSink = (relay: { readonly name: string; readonly transactionalId: string }) => Promise<Sink>;
