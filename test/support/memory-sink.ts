/**
 * A Kafka in memory behind the relay's Sink port, held to the real one by test/contract/sink.test.ts: transactions, fencing by
 * transactional id, and topics that can change behind the relay's back. Crashes can be planted at any commit.
 */
import { partitionOf } from '../../src/events/partition.ts';
import { HEADER, type OutgoingRecord } from '../../src/events/record.ts';
import { FerryError } from '../../src/kernel/errors.ts';
import type { Checkpoint, PinnedTopic } from '../../src/relay/checkpoint.ts';
import type { ParkedRecord } from '../../src/relay/parked-keys.ts';
import type { DeadLetterRecord, OpenSink, PublishedId, Sink } from '../../src/relay/sink.ts';

/** What becomes of a commit whose answer is lost: it took effect, it did not, or its transaction stays open. */
export type LostAnswer = 'applied' | 'not-applied' | 'left-open';

interface Transaction {
  readonly transactionalId: string;
  readonly checkpointTopic: string;
  readonly records: readonly OutgoingRecord[];
  readonly checkpoint: Checkpoint;
  state: 'open' | 'committed' | 'aborted';
}

export class MemoryKafka {
  readonly #transactions: Transaction[] = [];
  readonly #epochs = new Map<string, number>();
  readonly #topics = new Map<string, PinnedTopic>();
  readonly #partitions: number;
  #topicIds = 0;
  /** Asked at each commit: undefined lets it pass. */
  crash: () => LostAnswer | undefined = () => undefined;
  /** Awaited between sending and committing. */
  beforeCommit: () => Promise<void> = async () => {};

  constructor(partitions = 3) {
    this.#partitions = partitions;
  }

  open(checkpointTopic: string): OpenSink {
    return async ({ transactionalId }) => new MemorySink(this, checkpointTopic, transactionalId);
  }

  /** Records in committed transactions, in order. */
  get committed(): readonly OutgoingRecord[] {
    return this.#transactions.filter(({ state }) => state === 'committed').flatMap(({ records }) => records);
  }

  /** Records of events in committed transactions, in order: none that tell what is parked. */
  get events(): readonly OutgoingRecord[] {
    return this.committed.filter(isOfEvent);
  }

  /** Sizes of the committed transactions in records of events, in order. */
  get committedSizes(): readonly number[] {
    const committed = this.#transactions.filter(({ state }) => state === 'committed');
    return committed.map(({ records }) => records.filter(isOfEvent).length);
  }

  topic(name: string): PinnedTopic | undefined {
    return this.#topics.get(name);
  }

  makeTopic(name: string, partitions = this.#partitions): PinnedTopic {
    const made = { id: String(++this.#topicIds), partitions };
    this.#topics.set(name, made);
    return made;
  }

  deleteTopic(name: string): void {
    this.#topics.delete(name);
  }

  addPartitions(name: string, count: number): void {
    const topic = this.#topics.get(name) ?? this.makeTopic(name);
    this.#topics.set(name, { ...topic, partitions: count });
  }

  fence(transactionalId: string): number {
    for (const one of this.#transactions) {
      if (one.transactionalId === transactionalId && one.state === 'open') one.state = 'aborted';
    }
    const epoch = (this.#epochs.get(transactionalId) ?? 0) + 1;
    this.#epochs.set(transactionalId, epoch);
    return epoch;
  }

  assertUnfenced(transactionalId: string, epoch: number): void {
    if (this.#epochs.get(transactionalId) !== epoch) throw new Error('fenced by a newer producer');
  }

  begin(transaction: Omit<Transaction, 'state'>): Transaction {
    const begun = { ...transaction, state: 'open' as const };
    this.#transactions.push(begun);
    return begun;
  }

  /** The newest committed checkpoint, of all or only below the first transaction that is open. */
  newest(checkpointTopic: string, until: 'end' | 'last-stable'): Checkpoint | null {
    const own = this.#transactions.filter((one) => one.checkpointTopic === checkpointTopic);
    const open = own.findIndex(({ state }) => state === 'open');
    if (open >= 0 && until === 'end') throw new Error('a transaction below the end is open');
    const decided = open < 0 ? own : own.slice(0, open);
    return decided.findLast(({ state }) => state === 'committed')?.checkpoint ?? null;
  }
}

function isOfEvent({ topic }: OutgoingRecord): boolean {
  return !topic.endsWith('.parked');
}

class MemorySink implements Sink {
  readonly #kafka: MemoryKafka;
  readonly #checkpointTopic: string;
  readonly #transactionalId: string;
  readonly #pinned = new Map<string, PinnedTopic>();
  #epoch: number | null = null;
  #broken = false;

  constructor(kafka: MemoryKafka, checkpointTopic: string, transactionalId: string) {
    this.#kafka = kafka;
    this.#checkpointTopic = checkpointTopic;
    this.#transactionalId = transactionalId;
    const parked = kafka.topic(this.parkedTopic) ?? kafka.makeTopic(this.parkedTopic, 1);
    this.#pinned.set(this.parkedTopic, parked);
  }

  async peek(): Promise<Checkpoint | null> {
    return this.#kafka.newest(this.#checkpointTopic, 'last-stable');
  }

  async fence(prove: () => Promise<unknown>): Promise<void> {
    await prove();
    this.#epoch = this.#kafka.fence(this.#transactionalId);
  }

  async readCheckpoint(): Promise<Checkpoint | null> {
    return this.#kafka.newest(this.#checkpointTopic, 'end');
  }

  async pin(topics: Checkpoint['topics']): Promise<void> {
    for (const [name, pinned] of topics) {
      const now = this.#kafka.topic(name);
      if (now?.id !== pinned.id || now.partitions !== pinned.partitions) {
        throw new FerryError('RELAY_PARTITIONS_CHANGED', `topic ${name} is no longer what it was`);
      }
      this.#pinned.set(name, pinned);
    }
  }

  async *publishedIds(topics: readonly string[]): AsyncGenerator<PublishedId> {
    for (const topic of topics) {
      for (const { headers } of this.#kafka.committed.filter((record) => record.topic === topic)) {
        const id = headers[HEADER.id];
        if (id !== undefined) yield { topic, id };
      }
    }
  }

  get parkedTopic(): string {
    return `${this.#checkpointTopic}.parked`;
  }

  async *readParked(): AsyncGenerator<ParkedRecord> {
    for (const { topic, key, value } of this.#kafka.committed) {
      if (topic === this.parkedTopic) yield { key: key === null ? null : Buffer.from(key), value };
    }
  }

  async *deadLetters(topic: string, key: string, ids: ReadonlySet<string>): AsyncGenerator<DeadLetterRecord> {
    const partition = partitionOf(key, this.#kafka.topic(topic)?.partitions ?? 1);
    for (const record of this.#kafka.committed) {
      const id = record.headers[HEADER.id];
      if (record.topic !== topic || record.partition !== partition || id === undefined || !ids.has(id)) continue;
      yield { id, value: record.value, headers: record.headers };
    }
  }

  get topics(): ReadonlyMap<string, PinnedTopic> {
    return this.#pinned;
  }

  partitions(topic: string): number | undefined {
    return this.#pinned.get(topic)?.partitions;
  }

  async meetAside(topic: string): Promise<number> {
    return (this.#kafka.topic(topic) ?? this.#kafka.makeTopic(topic)).partitions;
  }

  async meet(topic: string): Promise<number> {
    const met = this.#kafka.topic(topic) ?? this.#kafka.makeTopic(topic);
    this.#pinned.set(topic, met);
    return met.partitions;
  }

  async commit(records: readonly OutgoingRecord[], checkpoint: Checkpoint, onSent: () => void): Promise<void> {
    if (this.#epoch === null) throw new Error('commit before fence');
    if (this.#broken) throw new Error('this sink failed before and must be replaced');
    this.#broken = true;
    this.#kafka.assertUnfenced(this.#transactionalId, this.#epoch);
    const transaction = this.#kafka.begin({
      transactionalId: this.#transactionalId,
      checkpointTopic: this.#checkpointTopic,
      records,
      checkpoint: { ...checkpoint, topics: new Map(this.#pinned) },
    });
    const crash = this.#kafka.crash();
    if (crash === 'left-open') throw new Error('crashed before EndTxn');
    onSent();
    await this.#kafka.beforeCommit();
    this.#kafka.assertUnfenced(this.#transactionalId, this.#epoch);
    transaction.state = crash === 'not-applied' ? 'aborted' : 'committed';
    if (crash !== undefined) throw new Error('the answer to EndTxn was lost');
    this.#broken = false;
  }

  async close(): Promise<void> {
    this.#broken = true;
  }
}
