/**
 * From the outbox to the projection on real parts: what consumers keep equals what SQL computes from the outbox, also after redelivery;
 * and the counting finds faults that are put into the real Kafka.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startService } from '../../src/app/service.ts';
import { pushAllSchemas } from '../../src/cli/schemas-command.ts';
import type { RunningService } from '../../src/cli/service.ts';
import { HEADER } from '../../src/events/record.ts';
import { createKafka, kafkaOptions } from '../../src/kafka/client.ts';
import type { LogRecord } from '../../src/kafka/log-reader.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { assertTotalsEqualLedger, keptTotals } from '../support/order-totals.ts';
import { openProof, type Proof } from '../support/proof.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';
import { runWorkload } from '../support/workload.ts';

const stack = await testStack();
const config = { ...stack.config, FERRY_ROLES: 'relay,projection', LOG_LEVEL: 'error' } as const;
const topic = `${config.TOPIC_PREFIX}commerce.order`;
const group = `${config.TOPIC_PREFIX}orders-per-customer`;
const kafka = createKafka(kafkaOptions(config, 'projection-test', createLogger(config, { role: 'test' })));

describe('the projection of orders per customer', () => {
  let proof: Proof;
  let service: RunningService;

  before(async () => {
    await pushAllSchemas(config);
    proof = await openProof(config);
    service = await startService(config);
  });
  after(async () => {
    await service.stop();
    await proof.close();
  });

  async function applied(): Promise<number> {
    const { rows } = await proof.pool.query<{ count: number }>(
      'select count(*)::int as count from ferry.inbox where consumer_group = $1',
      [group],
    );
    return rows[0]?.count ?? 0;
  }

  async function firstRecord(): Promise<LogRecord> {
    for await (const record of proof.events.log.readAll([topic], 30_000)) return record;
    throw new Error('the topic is empty');
  }

  async function send(record: Pick<LogRecord, 'partition' | 'key' | 'value'>, headers: Record<string, string>) {
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic, messages: [{ ...record, headers }] });
    await producer.disconnect();
  }

  /** The group's committed offsets reach the ends: each record was handled, whatever became of it. */
  async function untilConsumed(): Promise<void> {
    const admin = kafka.admin();
    await admin.connect();
    const records = new Map<number, bigint>();
    for await (const { partition, offset } of proof.events.log.readAll([topic], 30_000)) records.set(partition, offset);
    await waitUntil('the group to reach the end', async () => {
      const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      const committed = new Map(offsets?.partitions.map(({ partition, offset }) => [partition, BigInt(offset)]));
      return [...records].every(([partition, offset]) => (committed.get(partition) ?? -1n) > offset);
    });
    await admin.disconnect();
  }

  test('equals what SQL computes from the outbox', async () => {
    const { committedRows } = await runWorkload({
      databaseUrl: stack.databaseUrl,
      rows: 3_000,
      largestTransaction: 800,
    });
    await proof.assertSound({ rows: committedRows });
    await waitUntil('every event to be applied', async () => (await applied()) === committedRows);
    await assertTotalsEqualLedger(proof.pool);
  });

  test('does not change when a record is delivered again, and the counting sees that it was', async () => {
    const record = await firstRecord();
    const kept = await keptTotals(proof.pool);
    await send(record, { ...record.headers });
    await untilConsumed();
    assert.deepEqual(await keptTotals(proof.pool), kept);
    const report = await proof.count();
    assert.deepEqual([report.duplicates, report.missing, report.outOfOrder, report.unexpected], [1, 0, 0, 0]);
    assert.match(report.examples.duplicates[0] ?? '', new RegExp(`^${record.headers[HEADER.id]} at `));
  });

  test('goes on behind records that nobody can read, and the counting sees those', async () => {
    const record = await firstRecord();
    await send({ ...record, value: Buffer.from('no wire format') }, { ...record.headers });
    await send(record, {});
    const before = await applied();
    const { committedRows } = await runWorkload({ databaseUrl: stack.databaseUrl, rows: 50, largestTransaction: 20 });
    await untilConsumed();
    await waitUntil('the new events to be applied', async () => (await applied()) === before + committedRows);
    const report = await proof.count();
    assert.deepEqual([report.undecodable, report.unexpected, report.missing], [1, 1, 0]);
  });
});
