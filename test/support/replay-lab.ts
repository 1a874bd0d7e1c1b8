/** Replays in a RelayLab: begun as an operator does, and counted in Kafka record by record against the rows that they were to repeat. */
import assert from 'node:assert/strict';
import { topicRoutes } from '../../src/events/routes.ts';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
import { knownReplay, operateReplay, type ReplayFacts, startReplay } from '../../src/ops/replays.ts';
import { createPool, type Pool } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import type { Selection } from '../../src/replay/selection.ts';
import { hasEnded, type ReplayAction } from '../../src/replay/states.ts';
import type { ReplayRequest } from '../../src/replay/store.ts';
import type { RelayLab } from './relay-lab.ts';
import { waitUntil } from './signals.ts';

export const EVERYTHING: Selection = {
  eventIds: null,
  aggregateType: null,
  aggregateId: null,
  type: null,
  recordedFrom: null,
  recordedTo: null,
  lsnFrom: null,
  lsnTo: null,
  schemaId: null,
};

/** All orders, to where they were, as they were, as fast as tests like it. */
const DEFAULTS: ReplayRequest = {
  selection: { ...EVERYTHING, aggregateType: 'order' },
  topic: null,
  newIds: false,
  schemaId: null,
  eventsPerSecond: 50_000,
  reason: 'the projection was lost',
};

const ACTOR = { principal: 'test', requestId: null };

export class ReplayLab {
  readonly lab: RelayLab;
  readonly pool: Pool;

  constructor(lab: RelayLab) {
    this.lab = lab;
    this.pool = createPool(lab.config, 'test replays', { max: 2 });
  }

  get place() {
    const { RELAY_NAME: relay, TOPIC_PREFIX: topicPrefix } = this.lab.config;
    return { relay, topicPrefix, routes: topicRoutes(this.lab.config) };
  }

  /** Resolves with the replay's id. */
  start(request: Partial<ReplayRequest> = {}): Promise<string> {
    return transaction(this.pool, (tx) => startReplay(tx, ACTOR, this.place, { ...DEFAULTS, ...request }));
  }

  operate(id: string, action: ReplayAction, reason = 'because'): Promise<void> {
    return transaction(this.pool, (tx) => operateReplay(tx, ACTOR, { id, action, reason }));
  }

  show(id: string): Promise<ReplayFacts> {
    return knownReplay(this.pool, id);
  }

  until(id: string, what: string, is: (replay: ReplayFacts) => boolean, deadlineMs = 60_000): Promise<ReplayFacts> {
    let last: ReplayFacts | undefined;
    const look = async () => {
      last = await this.show(id);
      return is(last) && last;
    };
    return waitUntil(`the replay ${what}`, look, { deadlineMs }).catch((error: Error) => {
      error.message += `\n${JSON.stringify(last, (_, value) => (typeof value === 'bigint' ? String(value) : value))}`;
      throw error;
    });
  }

  async untilCompleted(id: string, deadlineMs?: number): Promise<ReplayFacts> {
    const ended = await this.until(
      id,
      'having ended',
      ({ state }) => hasEnded(state) || state === 'paused',
      deadlineMs,
    );
    assert.equal(ended.state, 'completed', `${ended.errorCode}: ${ended.error}`);
    return ended;
  }

  /** The replay's records in a topic, partition by partition. */
  async records(id: string, topic: string): Promise<LogRecord[]> {
    return (await this.lab.records(topic)).filter(({ headers }) => headers.ferry_replay_id === id);
  }

  /**
   * Fails unless the rows, given in the order of insertion, are in the topic as records of the replay, each once, with ordinals from 1 without
   * a gap in that order, and in each partition (so for each key) one behind the other.
   */
  async assertReplayed(id: string, topic: string, eventIds: readonly string[]): Promise<LogRecord[]> {
    const records = await this.records(id, topic);
    const { newIds } = await this.show(id);
    const byOrdinal = new Map<number, string | undefined>();
    const last = new Map<number, number>();
    for (const { headers, partition } of records) {
      const ordinal = Number(headers.ferry_replay_ordinal);
      assert.ok(!byOrdinal.has(ordinal), `ordinal ${ordinal} is there twice`);
      assert.ok(ordinal > (last.get(partition) ?? 0), `ordinal ${ordinal} came behind ${last.get(partition)}`);
      byOrdinal.set(ordinal, newIds ? headers.ferry_replay_of : headers.ce_id);
      last.set(partition, ordinal);
    }
    const inOrder = Array.from({ length: records.length }, (_, i) => byOrdinal.get(i + 1));
    assert.equal(inOrder.length, eventIds.length, 'so many records');
    assert.deepEqual(inOrder, eventIds);
    return records;
  }

  /** Ids of the rows that meet a condition on ferry.outbox, in the order of insertion. */
  async rows(condition = 'true'): Promise<string[]> {
    const { rows } = await this.lab.sql<{ id: string }>(`select id from ferry.outbox where ${condition} order by seq`);
    return rows.map(({ id }) => id);
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}
