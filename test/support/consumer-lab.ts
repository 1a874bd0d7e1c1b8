/**
 * A laboratory for one consumer group: a topic and a group of its own on the real parts, records as any producer may send them, members
 * with the handlers of a test, and a table in which the handlers' effects are seen, in order.
 */
import { after } from 'node:test';
import type { Tracer } from '@opentelemetry/api';
import { type Admin, Kafka, logLevel, type Producer } from 'kafkajs';
import { type Logger, pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { HEADER } from '../../src/events/record.ts';
import { deadLetterTopic } from '../../src/events/routes.ts';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import { type ConsumerSettings, EventConsumer } from '../../src/inbox/event-consumer.ts';
import type { AnyHandler, HandleEvent } from '../../src/inbox/handler.ts';
import { type KafkaOptions, kafkaOptions } from '../../src/kafka/client.ts';
import { GroupProgress } from '../../src/kafka/group-progress.ts';
import { LogReader, type LogRecord } from '../../src/kafka/log-reader.ts';
import { type Cluster, openCluster } from '../../src/kafka/protocol.ts';
import { releaseKey } from '../../src/ops/parked-keys.ts';
import { createPool, type Pool, type Queryable } from '../../src/postgres/connection.ts';
import { createDecoder, type DiscreetDecoder } from '../../src/registry/decoder.ts';
import { EventSchema } from '../../src/registry/event-schema.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { WireWriter } from '../../src/registry/wire-format.ts';
import { quiet } from './relay-fixtures.ts';
import { type WaitOptions, waitUntil } from './signals.ts';
import type { TestStack } from './stack.ts';

export const COUNTED = 'lab.Counted';
const COUNTED_SCHEMA = JSON.stringify({
  type: 'record',
  name: COUNTED,
  fields: [
    { name: 'n', type: 'int' },
    { name: 'note', type: 'string', default: '', 'ferry.pii': true },
  ],
});

/** One record; what is left out is as Ferry's relay would have it. `null` for a header leaves it out. */
export interface LabRecord {
  readonly key: string | null;
  /** Goes into the value; with the key it names the effect. */
  readonly n: number;
  readonly note?: string;
  readonly id?: string;
  readonly recordedAt?: string;
  readonly value?: Buffer | null;
  readonly headers?: Readonly<Record<string, string | Buffer | null>>;
  readonly partition?: number;
  /** Default: the lab's. Records of one request go to one. */
  readonly topic?: string;
}

export interface MemberOptions {
  /** Of COUNTED; default: its effect and nothing else. */
  readonly handle?: HandleEvent<Counted>;
  /** Further types, or another handler of COUNTED. */
  readonly handlers?: Readonly<Record<string, AnyHandler>>;
  readonly settings?: Partial<ConsumerSettings>;
  readonly registryUrl?: string;
  readonly registryTimeoutMs?: number;
  readonly decoder?: DiscreetDecoder;
  readonly pool?: Pool;
  readonly tracer?: Tracer;
  readonly logger?: Logger;
  /** Told now and then how many events the member has taken up. */
  readonly onQueued?: (events: number) => void;
}

export interface Counted {
  readonly n: number;
  readonly note?: string;
}

/** What `ferry.parked_key` says of a key. */
export interface Parked {
  readonly key: string;
  readonly events: number;
  readonly event_id: string;
  readonly error_code: string;
  readonly asked: boolean;
}

const READ_TIMEOUT_MS = 10_000;
/** Tries follow one another fast; the pauses are seen to grow all the same. */
export const FAST_RETRY = { maxTries: 3, baseMs: 20, maxMs: 200 };

const EFFECT_TABLE = `create table public.effect (place bigint generated always as identity, consumer_group text not null, key text,
  n int not null, event_id uuid not null, attempt int not null)`;

/** By database. */
const effectTables = new Map<string, Promise<unknown>>();
let labs = 0;
let subjects = 0;

export class ConsumerLab {
  readonly group: string;
  readonly topic: string;
  readonly pool: Pool;
  readonly kafka: KafkaOptions;
  readonly #stack: TestStack;
  readonly #client: Kafka;
  readonly #producer: Producer;
  readonly #cluster: Cluster;
  readonly #counted: EventSchema;
  readonly #members: EventConsumer[] = [];
  readonly #writer = new WireWriter();

  private constructor(stack: TestStack, databaseUrl: string, name: string, connected: Connected) {
    this.#stack = stack;
    this.topic = `${name}.events`;
    this.group = `${name}.group`;
    this.pool = createPool({ ...stack.config, DATABASE_URL: databaseUrl }, name, { max: 12 });
    this.kafka = connected.options;
    this.#client = connected.client;
    this.#producer = connected.producer;
    this.#cluster = connected.cluster;
    this.#counted = connected.counted;
  }

  /** Ends with the test or suite that opens it. Without partitions there is no topic yet. `databaseUrl`: a database of the lab's own instead of the file's. */
  static async open(stack: TestStack, { partitions = 2, databaseUrl = stack.databaseUrl } = {}): Promise<ConsumerLab> {
    const name = `${stack.topicPrefix}${labs++}`;
    const options = kafkaOptions(stack.config, name, quiet.logger);
    const client = new Kafka({ clientId: name, brokers: [...options.brokers], logLevel: logLevel.NOTHING });
    const producer = client.producer();
    const [cluster, counted] = await Promise.all([openCluster(options), register(stack, COUNTED_SCHEMA)]);
    await producer.connect();
    const lab = new ConsumerLab(stack, databaseUrl, name, { options, client, producer, cluster, counted });
    after(() => lab.close());
    if (partitions > 0) await lab.createTopic(lab.topic, partitions);
    let prepared = effectTables.get(databaseUrl);
    if (prepared === undefined) {
      prepared = lab.pool.query(EFFECT_TABLE); // once: labs of a file are opened side by side
      effectTables.set(databaseUrl, prepared);
    }
    await prepared;
    return lab;
  }

  async createTopic(topic: string, numPartitions = 1): Promise<void> {
    await this.#administer(async (admin) => {
      await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: false });
      // kafkajs's own wait gives up on a topic that is not shown yet
      await waitUntil('the topic', async () => (await admin.fetchTopicOffsets(topic)).length === numPartitions);
    });
  }

  async deleteTopic(topic: string): Promise<void> {
    await this.#administer(async (admin) => {
      await admin.deleteTopics({ topics: [topic] });
      await waitUntil('the topic being gone', async () => !(await admin.listTopics()).includes(topic));
    });
  }

  async #administer<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = this.#client.admin();
    try {
      await admin.connect();
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  }

  /** Starts a member of the group. */
  start(options: MemberOptions = {}): EventConsumer {
    const member = this.member(options);
    member.start();
    return member;
  }

  /** A member of the group, not started. */
  member(options: MemberOptions = {}): EventConsumer {
    const { handle = (event, tx, { attempt }) => this.effect(event, tx, attempt), handlers = {} } = options;
    const { settings, onQueued } = options;
    const decoder =
      options.decoder ?? createLabDecoder(options.registryUrl ?? this.#stack.registryUrl, options.registryTimeoutMs);
    const { logger = process.env.LAB_LOG === undefined ? quiet.logger : pino({ level: process.env.LAB_LOG }) } =
      options;
    const member = new EventConsumer({
      ...quiet,
      metrics:
        onQueued === undefined ? quiet.metrics : { ...quiet.metrics, consumerQueuedEvents: { record: onQueued } },
      tracer: options.tracer ?? quiet.tracer,
      logger,
      decoder,
      kafka: { ...this.kafka, logger },
      pool: options.pool ?? this.pool,
      topicSettings: { partitions: 2, replicationFactor: 1 },
      backoffMaxMs: 500,
      group: this.group,
      topics: [this.topic],
      handlers: new Map([[COUNTED, handle as AnyHandler], ...Object.entries(handlers)]),
      settings: { retry: FAST_RETRY, ...settings },
    });
    this.#members.push(member);
    return member;
  }

  /** What a handler does by default: a row that the transaction keeps or not. */
  async effect(event: ConsumedEvent<Counted | null>, tx: Queryable, attempt = 1): Promise<void> {
    await tx.query(
      'insert into public.effect (consumer_group, key, n, event_id, attempt) values ($1, $2, $3, $4, $5)',
      [this.group, event.aggregateId, event.value?.n ?? -1, event.id, attempt],
    );
  }

  /** Registers a schema and gives what values are encoded with. */
  register(schema: object): Promise<EventSchema> {
    return register(this.#stack, JSON.stringify(schema));
  }

  encode(schema: EventSchema, value: object): Buffer {
    return schema.encode(JSON.stringify(value), this.#writer);
  }

  /** Sends records in one request, each to the partition of its key or the one it names; resolves with their event ids. */
  async send(records: readonly LabRecord[]): Promise<string[]> {
    const ids = records.map(({ id }) => id ?? uuidv7());
    await this.#producer.send({
      topic: records[0]?.topic ?? this.topic,
      messages: records.map((record, i) => this.#message(record, ids[i] ?? '')),
    });
    return ids;
  }

  #message({ key, n, note, recordedAt, value, headers, partition }: LabRecord, id: string) {
    const given = {
      [HEADER.id]: id,
      [HEADER.type]: COUNTED,
      [HEADER.recordedAt]: recordedAt ?? new Date().toISOString(),
      ...headers,
    };
    return {
      key,
      value: value === undefined ? this.encode(this.#counted, { n, note: note ?? '' }) : value,
      headers: Object.fromEntries(
        Object.entries(given).flatMap(([name, text]) => (text === null ? [] : [[name, text]])),
      ),
      ...(partition === undefined ? {} : { partition }),
    };
  }

  /** Effects of the group as `<key><n>`, in the order in which they were committed to the table. */
  async effects(): Promise<string[]> {
    const { rows } = await this.pool.query<{ effect: string }>(
      `select coalesce(key, '-') || n as effect from public.effect where consumer_group = $1 order by place`,
      [this.group],
    );
    return rows.map(({ effect }) => effect);
  }

  /** Those of one key, as numbers. */
  async effectsOf(key: string): Promise<number[]> {
    const { rows } = await this.pool.query<{ n: number }>(
      'select n from public.effect where consumer_group = $1 and key = $2 order by place',
      [this.group, key],
    );
    return rows.map(({ n }) => n);
  }

  async untilEffects(count: number, options?: WaitOptions): Promise<void> {
    await waitUntil(`${count} effects`, async () => (await this.effects()).length >= count, options);
  }

  /** Until the group has committed every record that the topic has now. */
  async untilDone(options?: WaitOptions): Promise<void> {
    const progress = await this.#progress();
    try {
      const ends = await progress.ends();
      const reached = async () => progress.hasReached(ends, await progress.committed());
      await waitUntil('the group to commit all of the topic', reached, options);
    } finally {
      await progress.close();
    }
  }

  /** Offsets that the group has committed, by `<topic>/<partition>`. */
  async committed(): Promise<ReadonlyMap<string, bigint>> {
    const progress = await this.#progress();
    try {
      return await progress.committed();
    } finally {
      await progress.close();
    }
  }

  #progress(): Promise<GroupProgress> {
    return GroupProgress.open({ kafka: this.kafka, groupId: this.group, topics: [this.topic] });
  }

  /** Back to the beginning; the group must have no member. */
  async resetOffsets(): Promise<void> {
    await this.#administer((admin) => admin.resetOffsets({ groupId: this.group, topic: this.topic, earliest: true }));
  }

  /** Lets go of a partition's records below an offset, as retention does. */
  async deleteRecords(partition: number, before: bigint, topic = this.topic): Promise<void> {
    await this.#administer(async (admin) => {
      await admin.fetchTopicOffsets(topic); // loads the metadata that deleteTopicRecords needs
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] });
    });
  }

  records(topic = this.topic): Promise<LogRecord[]> {
    return Array.fromAsync(new LogReader(this.#cluster).readAll([topic], READ_TIMEOUT_MS));
  }

  /** In the order of each key; none while the group has no dead-letter topic. */
  async deadLetters(): Promise<LogRecord[]> {
    const topic = deadLetterTopic(this.group);
    const exists = await this.#administer(async (admin) => (await admin.listTopics()).includes(topic));
    return exists ? this.records(topic) : [];
  }

  async untilDeadLetters(count: number, options?: WaitOptions): Promise<LogRecord[]> {
    const enough = async () => {
      const letters = await this.deadLetters();
      return letters.length >= count ? letters : null;
    };
    return waitUntil(`${count} dead letters`, enough, options);
  }

  /** Outcomes in the group's inbox, by event id. */
  async inbox(): Promise<ReadonlyMap<string, string>> {
    const { rows } = await this.pool.query<{ event_id: string; outcome: string }>(
      'select event_id, outcome from ferry.inbox where consumer_group = $1',
      [this.group],
    );
    return new Map(rows.map(({ event_id, outcome }) => [event_id, outcome]));
  }

  async parked(): Promise<Parked[]> {
    const { rows } = await this.pool.query<Parked>(
      `select convert_from(key, 'UTF8') as key, events::int, event_id, error_code, release_requested_at is not null as asked
       from ferry.parked_key where consumer_group = $1 order by 1`,
      [this.group],
    );
    return rows;
  }

  /** Asks for a release as an operator does. */
  async release(key: string, { discard = false } = {}): Promise<void> {
    const request = { group: this.group, topic: this.topic, key, discard, reason: 'test' };
    await releaseKey(this.pool, { principal: 'test', requestId: null }, { ...request, relay: null });
  }

  /** Until an operator's request is dealt with: the key is free, or parked again. */
  async untilReleased(key: string): Promise<void> {
    const waits = async () => (await this.parked()).some((parked) => parked.key === key && parked.asked);
    await waitUntil(`the release of ${key} to end`, async () => !(await waits()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.stop()));
    await Promise.allSettled([this.#producer.disconnect(), this.#cluster.disconnect(), this.pool.end()]);
  }
}

interface Connected {
  readonly options: KafkaOptions;
  readonly client: Kafka;
  readonly producer: Producer;
  readonly cluster: Cluster;
  readonly counted: EventSchema;
}

/** As a consumer has it, without a memory of schemas that another member met. */
function createLabDecoder(url: string, timeoutMs = 5_000): DiscreetDecoder {
  return createDecoder({ store: new SchemaStore(createRegistryClient({ url, timeoutMs })) });
}

/** Each under a subject of its own: what a registry allows as the next version is not the question here, but what consumers do with it. */
async function register(stack: TestStack, text: string): Promise<EventSchema> {
  const client = createRegistryClient({ url: stack.registryUrl });
  const id = await client.register(`${stack.topicPrefix}lab-${subjects++}`, text, 'NONE');
  return new EventSchema(id, { text, references: [] });
}
