/** A member of the group of bench/consumers.ts, written as a service would: it keeps for each key the version that was applied last. */
import { consume } from '../src/inbox/consume.ts';
import type { ConsumedEvent } from '../src/inbox/consumed-event.ts';
import type { Queryable } from '../src/postgres/connection.ts';

interface KeyProgress {
  readonly first: bigint;
  last: bigint;
  applied: number;
  outOfOrder: number;
}

const { group, topics, handler } = JSON.parse(process.env.BENCH_CONSUMER ?? '') as {
  group: string;
  topics: string[];
  handler: string;
};

async function noteVersions(events: readonly ConsumedEvent[], tx: Queryable): Promise<void> {
  const keys = new Map<string, KeyProgress>();
  for (const { aggregateId, aggregateVersion } of events) {
    const version = aggregateVersion ?? 0n;
    const key = keys.get(aggregateId ?? '');
    if (key === undefined) {
      keys.set(aggregateId ?? '', { first: version, last: version, applied: 1, outOfOrder: 0 });
      continue;
    }
    key.applied += 1;
    if (version <= key.last) key.outOfOrder += 1;
    key.last = version;
  }
  const rows = [...keys].sort(([a], [b]) => (a < b ? -1 : 1)); // locked in one order by all members
  await tx.query(
    `insert into public.applied_key as kept (aggregate_id, first_version, version, applied, out_of_order)
     select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::int[], $5::int[])
     on conflict (aggregate_id) do update
     set version = excluded.version, applied = kept.applied + excluded.applied,
         out_of_order = kept.out_of_order + excluded.out_of_order + (kept.version >= excluded.first_version)::int`,
    [
      rows.map(([id]) => id),
      rows.map(([, { first }]) => first),
      rows.map(([, { last }]) => last),
      rows.map(([, { applied }]) => applied),
      rows.map(([, { outOfOrder }]) => outOfOrder),
    ],
  );
}

const onBatch = { handleBatch: noteVersions };
const onEach = (event: ConsumedEvent, tx: Queryable) => noteVersions([event], tx);
const chosen = handler === 'each' ? onEach : onBatch;

const consumer = consume({
  group,
  topics,
  handlers: { 'commerce.OrderPlaced': chosen, 'commerce.OrderCancelled': chosen },
});
process.once('SIGTERM', () => void consumer.stop());
