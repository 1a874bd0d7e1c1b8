/** The one assertion of the tests on real parts: every committed event is in Kafka once, in order per aggregate, and readable. */
import assert from 'node:assert/strict';
import { type EventLog, openEventLog } from '../../src/cli/event-log.ts';
import { readSlotStatus } from '../../src/cli/relay-status.ts';
import type { Config } from '../../src/config/variables.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import { createPool, type Pool } from '../../src/postgres/connection.ts';
import { countEvents } from '../../src/reconcile/count.ts';
import { FAULTS, type IntegrityReport } from '../../src/reconcile/integrity.ts';
import { waitUntil } from './signals.ts';

export interface Proof {
  readonly pool: Pool;
  readonly events: EventLog;
  /** Counts now, whatever is on its way. */
  count(): Promise<IntegrityReport>;
  /** Waits until the relay has told the database that every row is published. */
  untilPublished(deadlineMs?: number): Promise<void>;
  /** Waits for quiet, counts, and fails with the whole report unless nothing is wrong. `rows`: what the outbox must hold. */
  assertSound(expected?: { rows?: number; deadLettered?: number; deadlineMs?: number }): Promise<IntegrityReport>;
  close(): Promise<void>;
}

const QUIET_DEADLINE_MS = 240_000;

/** Opens Kafka, registry and database of a configuration for counting. */
export async function openProof(config: Config): Promise<Proof> {
  const pool = createPool(config, 'proof', { max: 2, statementTimeoutMs: 60_000 });
  const events = await openEventLog(config);
  const count = () =>
    countEvents({
      outboxes: [pool],
      log: events.log,
      decoder: events.decoder,
      topicExists: events.topicExists,
      routes: topicRoutes(config),
    });
  const untilPublished = async (deadlineMs = QUIET_DEADLINE_MS) => {
    const isQuiet = async () => (await readSlotStatus(pool, config.RELAY_NAME)).pending === 0;
    await waitUntil('all rows being published', isQuiet, { deadlineMs });
  };
  return {
    pool,
    events,
    count,
    untilPublished,
    async assertSound({ rows, deadLettered = 0, deadlineMs } = {}) {
      await untilPublished(deadlineMs);
      const report = await count();
      const faults = FAULTS.filter((fault) => report[fault] !== 0);
      assert.deepEqual(faults, [], JSON.stringify(report, null, 2));
      assert.equal(report.deadLettered, deadLettered);
      assert.equal(report.published + report.deadLettered, report.outboxRows);
      if (rows !== undefined) assert.equal(report.outboxRows, rows);
      return report;
    },
    async close() {
      await events.close();
      await pool.end();
    },
  };
}
