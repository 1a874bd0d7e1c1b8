/**
 * A consumer as a service would write one, run as a process by the chaos tests (consumer-lab.ts has those that run inside a test): notes
 * of each event that it was applied and whether it came in the order of its key, and fails where the test wants it.
 */
import { consume } from '../../src/inbox/consume.ts';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import type { Queryable } from '../../src/postgres/connection.ts';
import type { Recording } from './recorder-group.ts';

const { group, topics, throws, hangs, ...settings } = JSON.parse(process.env.RECORDER ?? '') as Recording;
const matches = (pattern: string | undefined, text: string) => pattern !== undefined && new RegExp(pattern).test(text);

async function record(event: ConsumedEvent, tx: Queryable): Promise<void> {
  const { id, aggregateId, aggregateVersion } = event;
  await tx.query(
    `insert into public.recorded_key as kept (consumer_group, aggregate_id, version) values ($1, $2, $3)
     on conflict (consumer_group, aggregate_id) do update
     set version = excluded.version, out_of_order = kept.out_of_order + (kept.version >= excluded.version)::int`,
    [group, aggregateId, aggregateVersion],
  );
  await tx.query('insert into public.recorded_event (consumer_group, event_id) values ($1, $2)', [group, id]);
  const name = `${aggregateId}/${aggregateVersion}`;
  if (matches(throws, name)) throw new Error('a planted failure');
  if (matches(hangs, name)) await new Promise(() => {});
}

const consumer = consume({
  group,
  topics,
  handlers: { 'commerce.OrderPlaced': record, 'commerce.OrderCancelled': record },
  ...settings,
});
process.once('SIGTERM', () => void consumer.stop());
