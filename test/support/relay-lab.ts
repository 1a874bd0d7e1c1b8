/**
 * A laboratory for one relay: a database, topics and a relay name of its own, schemas pushed, writers, and the relay as a process that can
 * be killed, frozen and started again. Ends in the one question that matters: is every committed event in Kafka once, in order, readable?
 */
import type { Admin } from 'kafkajs';
import pg from 'pg';
import { openEventLog } from '../../src/cli/event-log.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/variables.ts';
import { deadLetterTopic, topicRoutes } from '../../src/events/routes.ts';
import { createKafka, kafkaOptions } from '../../src/kafka/client.ts';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
import { TOPIC_RESOURCE } from '../../src/kafka/topic-catalog.ts';
import { coerceError } from '../../src/kernel/errors.ts';
import { releaseKey } from '../../src/ops/parked-keys.ts';
import { createPool } from '../../src/postgres/connection.ts';
import type { IntegrityReport } from '../../src/reconcile/integrity.ts';
import { type Checkpoint, decodeCheckpoint } from '../../src/relay/checkpoint.ts';
import { relayNames } from '../../src/relay/names.ts';
import { FerryProcess } from './processes.ts';
import { openProof } from './proof.ts';
import { quiet } from './relay-fixtures.ts';
import { waitUntil } from './signals.ts';
import type { TestStack } from './stack.ts';
import { runWorkload, type WorkloadOptions, type WorkloadResult } from './workload.ts';

/** One row for the outbox; what is left out has the table's default. */
export interface NewEvent {
  readonly aggregateId: string;
  readonly type?: string;
  readonly payload?: object;
  readonly payloadBytes?: Buffer;
  readonly tombstone?: boolean;
  readonly aggregateType?: string;
  readonly version?: number;
  readonly schemaId?: number;
  readonly headers?: object;
  readonly traceparent?: string;
  readonly occurredAt?: string;
}

export interface Writing {
  /** Ends the writers; resolves with what they committed. */
  stop(): Promise<WorkloadResult>;
}

type Environment = Readonly<Record<string, string>>;

const READ_TIMEOUT_MS = 30_000;
const PUBLISH_DEADLINE_MS = 240_000;
const KEPT_LOG_LINES = 30;

/** Quiet is told by heartbeats, so they are frequent here; the rest is as in production unless a test says otherwise. */
const DEFAULTS: Environment = { RELAY_HEARTBEAT_INTERVAL_MS: '250', RELAY_BACKOFF_MAX_MS: '1000' };

export class RelayLab {
  readonly environment: Environment;
  readonly config: Config;
  /** The relay that most tests need; `newRelay` makes others of the same name. */
  readonly relay: FerryProcess;
  /** Rows that the outbox must hold. */
  rows = 0;
  /** How many of them must be dead letters. */
  deadLetters = 0;
  readonly #relays: FerryProcess[] = [];
  readonly #seeds: number[] = [];
  readonly #open = new Set<Writing>();

  private constructor(environment: Environment) {
    this.environment = environment;
    this.config = loadConfig(environment);
    this.relay = this.newRelay();
  }

  /** `environment` holds settings of this lab's relays. The name is the stack's with a number, so a file can open several. */
  static async open(stack: TestStack, environment: Environment = {}): Promise<RelayLab> {
    const databaseUrl = await stack.createDatabase();
    const name = new URL(databaseUrl).pathname.slice(1);
    const lab = new RelayLab({
      ...stack.environment,
      ...DEFAULTS,
      DATABASE_URL: databaseUrl,
      RELAY_NAME: name,
      TOPIC_PREFIX: `${name}.`,
      ...environment,
    });
    await pushAllSchemas(lab.config);
    return lab;
  }

  /** Another process of the same relay, not started; ended with the lab. */
  newRelay(environment: Environment = {}): FerryProcess {
    return this.newProcess('relay', environment);
  }

  /** A process of other roles beside the relay, not started; ended with the lab. */
  newProcess(roles: string, environment: Environment = {}): FerryProcess {
    const made = new FerryProcess({ roles, env: { ...this.environment, ...environment } });
    this.#relays.push(made);
    return made;
  }

  /** Starts a relay and waits until it streams. */
  async stream(relay: FerryProcess = this.relay, extra: Environment = {}): Promise<void> {
    relay.start(extra);
    await untilStreaming(relay);
  }

  /** Writes and waits for the end. */
  async write(options: Omit<WorkloadOptions, 'databaseUrl'>): Promise<WorkloadResult> {
    const result = await runWorkload({ databaseUrl: this.environment.DATABASE_URL ?? '', ...options });
    this.rows += result.committedRows;
    this.#seeds.push(result.seed);
    return result;
  }

  /** Writes until it is told to stop. */
  startWriting(options: Omit<WorkloadOptions, 'databaseUrl' | 'signal'> = {}): Writing {
    const over = new AbortController();
    const result = this.write({ ...options, signal: over.signal });
    result.catch(() => {}); // whoever stops it is told
    const writing: Writing = {
      stop: () => {
        over.abort();
        this.#open.delete(writing);
        return result;
      },
    };
    this.#open.add(writing);
    return writing;
  }

  /** Inserts events in one transaction; resolves with their ids. */
  async insert(events: readonly NewEvent[]): Promise<string[]> {
    const { rows } = await this.sql<{ id: string }>(INSERT, [JSON.stringify(events.map(toRow))]);
    this.rows += events.length;
    return rows.map(({ id }) => id);
  }

  /** Commits wait for a synchronous standby of this name; none if it is empty. The server is the lab's own. */
  async requireStandby(name: string): Promise<void> {
    await this.configure('synchronous_standby_names', name);
  }

  /** Changes a setting of the server, which is the lab's own. */
  async configure(setting: string, value: string): Promise<void> {
    await this.sql(`alter system set ${setting} = '${value}'`);
    await this.sql('select pg_reload_conf()');
    await waitUntil('the setting', async () => {
      const { rows } = await this.sql<{ now: string }>(`select current_setting('${setting}') as now`);
      return rows[0]?.now === value;
    });
  }

  /** A connection to the database, for what takes several statements. */
  async connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.environment.DATABASE_URL });
    client.on('error', () => {}); // shows in the query
    await client.connect();
    return client;
  }

  /** Runs a statement on a connection of its own. */
  async sql<R extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<pg.QueryResult<R>> {
    const client = await this.connect();
    try {
      return await client.query<R>(text, values);
    } finally {
      await client.end().catch(() => {});
    }
  }

  /** `pending`, `published` or `dead-lettered`, as an application asks for it. */
  async statusOf(eventId: string | undefined): Promise<string | undefined> {
    const { rows } = await this.sql<{ status: string }>('select ferry.outbox_status($1, $2) as status', [
      eventId,
      this.config.RELAY_NAME,
    ]);
    return rows[0]?.status;
  }

  /** Waits until an event is published, and with it all that was committed before. */
  async untilPublished(eventId: string | undefined, deadlineMs = PUBLISH_DEADLINE_MS): Promise<void> {
    try {
      const isPublished = async () => (await this.statusOf(eventId)) === 'published';
      await waitUntil('the event being published', isPublished, { deadlineMs });
    } catch (thrown) {
      throw this.explain(coerceError(thrown));
    }
  }

  /** What a reset comes to: the slot is lost, and the next start makes one anew in epoch 2. The relay must be stopped. */
  async beginSecondEpoch(): Promise<void> {
    const { slot } = relayNames(this.config);
    await this.sql('select pg_drop_replication_slot($1)', [slot]);
    await this.sql(
      `insert into ferry.relay_epoch (relay, epoch, slot, state, reason) values ($1, 2, $2, 'creating', 'test')`,
      [this.config.RELAY_NAME, slot],
    );
  }

  async administer(work: (admin: Admin) => Promise<unknown>): Promise<void> {
    const admin = createKafka(kafkaOptions(this.config, 'test-admin', quiet.logger)).admin();
    await admin.connect();
    await work(admin).finally(() => admin.disconnect());
  }

  async deleteTopic(name: string): Promise<void> {
    await this.administer((admin) => admin.deleteTopics({ topics: [name] }));
  }

  /** What is not named goes back to Kafka's default. */
  async alterTopic(name: string, settings: Readonly<Record<string, string>>): Promise<void> {
    const configEntries = Object.entries(settings).map(([setting, value]) => ({ name: setting, value }));
    const resources = [{ type: TOPIC_RESOURCE, name, configEntries }];
    await this.administer((admin) => admin.alterConfigs({ validateOnly: false, resources }));
  }

  topic(aggregateType: string): string {
    return topicRoutes(this.config).topicOf(aggregateType);
  }

  deadLetterTopic(aggregateType: string): string {
    return deadLetterTopic(this.topic(aggregateType));
  }

  /** Committed records of a topic, partition by partition; none if it does not exist. */
  async records(topic: string): Promise<LogRecord[]> {
    const events = await openEventLog(this.config);
    try {
      if (!(await events.topicExists(topic))) return [];
      return await Array.fromAsync(events.log.readAll([topic], READ_TIMEOUT_MS));
    } finally {
      await events.close();
    }
  }

  /** Asks the relay for what waits of a key, as an operator does. */
  async release(aggregateId: string, { aggregateType = 'order', discard = false } = {}): Promise<void> {
    const pool = createPool(this.config, 'release', { max: 1 });
    const owner = { group: null, relay: this.config.RELAY_NAME };
    const key = { topic: this.topic(aggregateType), key: aggregateId };
    const actor = { principal: 'test', requestId: null };
    await releaseKey(pool, actor, { ...owner, ...key, discard, reason: 'mended' }).finally(() => pool.end());
  }

  /** All checkpoints that compaction has left, oldest first. */
  async checkpoints(): Promise<Checkpoint[]> {
    const records = await this.records(relayNames(this.config).checkpointTopic);
    return records.flatMap(({ value }) => (value === null ? [] : [decodeCheckpoint(value)]));
  }

  /**
   * The shared assertion: waits until every row is published, counts, and fails unless each row is in Kafka once, in order per aggregate,
   * decodable, and the outbox holds what the writers committed. The failure tells seeds and the relays' last words.
   */
  async assertExactlyOnce(deadlineMs?: number): Promise<IntegrityReport> {
    const proof = await openProof(this.config);
    try {
      return await proof.assertSound({
        rows: this.rows,
        deadLettered: this.deadLetters,
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
      });
    } catch (thrown) {
      throw this.explain(coerceError(thrown));
    } finally {
      await proof.close();
    }
  }

  /** Counts now, whatever is on its way. */
  async count(): Promise<IntegrityReport> {
    const proof = await openProof(this.config);
    try {
      return await proof.count();
    } finally {
      await proof.close();
    }
  }

  /** Ends writers and relays; the database goes with the stack. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#open].map((writing) => writing.stop()));
    await Promise.all(this.#relays.map((relay) => relay.kill()));
  }

  /** Adds to a failure the seeds of the writers and the relays' last words. */
  explain(error: Error): Error {
    const logs = this.#relays.flatMap((relay, i) =>
      [...relay.lines.map((line) => JSON.stringify(line)), ...relay.output]
        .slice(-KEPT_LOG_LINES)
        .map((line) => `relay ${i + 1}: ${line}`),
    );
    error.message += `\nseeds of the writers: ${this.#seeds.join(', ')}\n${logs.join('\n')}`;
    return error;
  }
}

export async function untilStreaming(relay: FerryProcess, deadlineMs?: number): Promise<void> {
  await relay.waitForLog('the relay streaming', ({ msg }) => msg === 'streaming', deadlineMs);
}

const INSERT = `insert into ferry.outbox
    (aggregatetype, aggregateid, aggregateversion, type, payload, payload_bytes, tombstone, schema_id, headers, traceparent, occurred_at)
  select aggregatetype, aggregateid, aggregateversion, type, payload, decode(payload_bytes, 'hex'), coalesce(tombstone, false), schema_id,
         coalesce(headers, '{}'), traceparent, coalesce(occurred_at, clock_timestamp())
    from jsonb_to_recordset($1::jsonb)
      as row(aggregatetype text, aggregateid text, aggregateversion bigint, type text, payload jsonb, payload_bytes text, tombstone boolean,
             schema_id int, headers jsonb, traceparent text, occurred_at timestamptz)
  returning id`;

function toRow(event: NewEvent): object {
  return {
    aggregatetype: event.aggregateType ?? 'order',
    aggregateid: event.aggregateId,
    aggregateversion: event.version,
    type: event.type ?? 'commerce.OrderPlaced',
    payload: event.payload,
    payload_bytes: event.payloadBytes?.toString('hex'),
    tombstone: event.tombstone,
    schema_id: event.schemaId,
    headers: event.headers,
    traceparent: event.traceparent,
    occurred_at: event.occurredAt,
  };
}
