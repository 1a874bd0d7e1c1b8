/**
 * Reads the dead-letter topics into ferry.dead_letter. How far each partition was read stands beside the letters and moves in the transaction
 * that enters them, so each record is entered once, whatever is killed and however many processes do this; no consumer group is needed, whose
 * offsets would expire. Topics that come later are found by looking for them.
 */
import type { EventDecoder } from '../events/decoder.ts';
import type { KafkaOptions } from '../kafka/client.ts';
import { LogReader, type LogRecord, type PartitionRange } from '../kafka/log-reader.ts';
import { openCluster } from '../kafka/protocol.ts';
import { TopicCatalog, type TopicFacts } from '../kafka/topic-catalog.ts';
import { sleep } from '../kernel/deadline.ts';
import type { FailPoint } from '../kernel/fail-point.ts';
import { Poller } from '../kernel/poller.ts';
import type { Pool, Queryable } from '../postgres/connection.ts';
import { isDataError, sqlStateOf } from '../postgres/sqlstate.ts';
import { transaction } from '../postgres/transaction.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { boundedCode } from './bounded-code.ts';
import { type Letter, readLetter } from './letter.ts';
import { enterLetter, movePosition, readPositions, type SourcePosition } from './letter-store.ts';
import { type ReadPayload, readPayload } from './payload.ts';

export interface ProjectionOptions {
  readonly kafka: KafkaOptions;
  readonly pool: Pool;
  readonly decoder: EventDecoder;
  /** Topics that begin so and end in `.dlq` are read. */
  readonly topicPrefix: string;
  /** Further ones. */
  readonly furtherTopics: readonly string[];
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'deadLettersTotal' | 'deadLettersLeftOutTotal'>;
  readonly failPoint: FailPoint;
}

/** Between two looks at the topics' ends. */
const POLL_MS = 500;
/** Between two looks for topics. */
const DISCOVER_MS = 3_000;
const READ_TIMEOUT_MS = 30_000;
const CHUNK_RECORDS = 200;
const CHUNK_BYTES = 4_194_304;
const SUFFIX = '.dlq';

interface Entry {
  readonly letter: Letter;
  readonly payload: ReadPayload | null;
}

export class DeadLetterProjection {
  readonly #options: ProjectionOptions;
  readonly #poller: Poller;

  constructor(options: ProjectionOptions) {
    this.#options = options;
    this.#poller = new Poller({
      turn: (signal) => this.#readUntilItEnds(signal),
      onError: (err) => options.logger.warn({ err }, 'dead letters are not read into the store for now'),
    });
  }

  /** Begins; Kafka and Postgres need not be there yet. */
  start(): void {
    this.#poller.start();
  }

  stop(): Promise<void> {
    return this.#poller.stop();
  }

  /** Over one set of connections, which any error ends. */
  async #readUntilItEnds(signal: AbortSignal): Promise<number> {
    const { kafka } = this.#options;
    const cluster = await openCluster(kafka);
    try {
      const catalog = new TopicCatalog(kafka, cluster, { partitions: 1, replicationFactor: -1 });
      const log = new LogReader(cluster);
      let topics: string[] = [];
      for (let lookAgainAt = 0; !signal.aborted; ) {
        if (performance.now() >= lookAgainAt) {
          topics = (await catalog.list()).filter((topic) => this.#isOurs(topic));
          for (const topic of topics) await catalog.lookUp(topic);
          lookAgainAt = performance.now() + DISCOVER_MS;
        }
        await this.#readTopics(topics, catalog, log, signal);
        await sleep(POLL_MS, signal);
      }
      return 0;
    } finally {
      await cluster.disconnect().catch(() => {});
    }
  }

  #isOurs(topic: string): boolean {
    const { topicPrefix, furtherTopics } = this.#options;
    return furtherTopics.includes(topic) || (topic.startsWith(topicPrefix) && topic.endsWith(SUFFIX));
  }

  /** One topic that cannot be read (being deleted, without a leader) keeps no other one waiting. */
  async #readTopics(
    topics: readonly string[],
    catalog: TopicCatalog,
    log: LogReader,
    signal: AbortSignal,
  ): Promise<void> {
    let failure: Error | null = null;
    for (const topic of topics) {
      try {
        await this.#readTopic(topic, catalog, log, signal);
      } catch (thrown) {
        failure ??= new Error(`topic ${topic} cannot be read`, { cause: thrown });
      }
      if (signal.aborted) return;
    }
    if (failure !== null) throw failure;
  }

  async #readTopic(topic: string, catalog: TopicCatalog, log: LogReader, signal: AbortSignal): Promise<void> {
    const positions = await readPositions(this.#options.pool, topic);
    const ranges = await log.ranges(topic, 'last-stable');
    const topicId = catalog.known(topic)?.topicId;
    const isRead = ({ partition, to }: PartitionRange) => {
      const known = positions.get(partition);
      return known !== undefined && known.topicId === topicId && known.nextOffset === to;
    };
    if (ranges.every(isRead)) return;
    const facts = await catalog.lookUp(topic); // anew: it may have been deleted and made again
    if (facts === null) return;
    for (const range of ranges) {
      const known = positions.get(range.partition) ?? null;
      if (!signal.aborted) await this.#readPartition(range, facts, known, log.read.bind(log), signal);
    }
  }

  async #readPartition(
    range: PartitionRange,
    { topicId }: TopicFacts,
    known: SourcePosition | null,
    read: LogReader['read'],
    signal: AbortSignal,
  ): Promise<void> {
    const before = known?.topicId === topicId ? known.nextOffset : 0n;
    if (before < range.from && before > 0n) {
      const lost = { topic: range.topic, partition: range.partition, from: String(before), to: String(range.from) };
      this.#options.logger.error(lost, 'dead letters were deleted from their topic before they were read');
    }
    const from = before > range.from ? before : range.from;
    if (from >= range.to && known?.topicId === topicId) return;
    let position = known;
    let chunk: LogRecord[] = [];
    let bytes = 0;
    const enter = async (nextOffset: bigint): Promise<boolean> => {
      const to = { topicId, nextOffset };
      const entered = await this.#enter(range, chunk, position, to);
      position = to;
      chunk = [];
      bytes = 0;
      return entered;
    };
    for await (const record of read({ ...range, from }, READ_TIMEOUT_MS)) {
      chunk.push(record);
      bytes += (record.value?.length ?? 0) + (record.key?.length ?? 0);
      if (chunk.length < CHUNK_RECORDS && bytes < CHUNK_BYTES) continue;
      if (!(await enter(record.offset + 1n)) || signal.aborted) return;
    }
    await enter(range.to); // behind the marks of transactions too
  }

  /** False if another process has entered them. */
  async #enter(
    place: { topic: string; partition: number },
    records: readonly LogRecord[],
    from: SourcePosition | null,
    to: SourcePosition,
  ): Promise<boolean> {
    const { pool, decoder, metrics, failPoint } = this.#options;
    const entries: Entry[] = [];
    for (const record of records) {
      const letter = readLetter(record);
      if (letter !== null) entries.push({ letter, payload: await readPayload(letter.value, decoder) });
    }
    const enterWith = (enterOne: EnterOne): Promise<Entry[] | null> =>
      transaction(pool, async (tx) => {
        if (!(await movePosition(tx, place, from, to))) return null;
        const inStore: Entry[] = [];
        for (const entry of entries) if (await enterOne(tx, entry)) inStore.push(entry);
        failPoint('before-letters-commit');
        return inStore;
      });
    const entered = await enterWith(enterEntry).catch((thrown) => {
      if (!isDataError(thrown)) throw thrown;
      return enterWith((tx, entry) => this.#enterOrLeaveOut(tx, entry)); // whichever it is, the others need not wait for it
    });
    if (entered === null) return false;
    failPoint('after-letters-commit');
    for (const { letter } of entered) metrics.deadLettersTotal.add(1, { code: boundedCode(letter.code) });
    if (entered.length < entries.length) metrics.deadLettersLeftOutTotal.add(entries.length - entered.length);
    return true;
  }

  /** False for a letter that Postgres refuses: it stays in its topic only, and the log says where. */
  async #enterOrLeaveOut(tx: Queryable, entry: Entry): Promise<boolean> {
    await tx.query('savepoint letter');
    try {
      await enterEntry(tx, entry);
    } catch (thrown) {
      if (!isDataError(thrown)) throw thrown;
      await tx.query('rollback to savepoint letter');
      const { topic, partition, offset, eventId } = entry.letter;
      const place = { topic, partition, offset: String(offset), eventId, code: sqlStateOf(thrown) };
      this.#options.logger.error(place, 'the dead-letter store cannot hold a record: it stays in its topic only');
      return false;
    }
    await tx.query('release savepoint letter');
    return true;
  }
}

/** False if the letter is left out. */
type EnterOne = (tx: Queryable, entry: Entry) => Promise<boolean>;

async function enterEntry(tx: Queryable, { letter, payload }: Entry): Promise<true> {
  await enterLetter(tx, letter, payload);
  return true;
}
