/** Events of an aggregate on a real Postgres, in any order and from several connections at once: each applied once, in order. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ConsumedEvent } from '../../src/inbox/consumed-event.ts';
import { applyInSequence, MAX_WAITING, type SequencedEvent } from '../../src/inbox/in-sequence.ts';
import { createPool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { consumedEvent } from '../support/consumed-events.ts';
import { createRandom } from '../support/random.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const pool = createPool(stack.config, 'ferry-test', { max: 8 });
after(() => pool.end());

/** A handler whose effect can be counted. */
async function record(tx: Queryable, group: string, event: ConsumedEvent): Promise<void> {
  await tx.query('insert into public.effect (consumer_group, aggregate, version) values ($1, $2, $3)', [
    group,
    `${event.aggregateType} ${event.aggregateId}`,
    event.aggregateVersion,
  ]);
}

const sequenceIn = (tx: Queryable, sequenced: SequencedEvent) =>
  applyInSequence(tx, sequenced, (event) => record(tx, sequenced.group, event));

const sequence = (group: string, version: number, changes: Partial<ConsumedEvent> & { startAt?: bigint } = {}) => {
  const { startAt = 1n, ...rest } = changes;
  return transaction(pool, (tx) => sequenceIn(tx, { group, event: consumedEvent(version, rest), startAt }));
};

/** Versions in the order in which they were applied. */
async function effects(group: string, aggregate = 'order o-1'): Promise<number[]> {
  const { rows } = await pool.query<{ version: number }>(
    'select version::int as version from public.effect where consumer_group = $1 and aggregate = $2 order by place',
    [group, aggregate],
  );
  return rows.map(({ version }) => version);
}

/** What the two tables hold of a group: `applied (counted as waiting): versions that wait`. */
async function positions(group: string): Promise<string[]> {
  const { rows } = await pool.query<{ text: string }>(
    `select format('%s (%s): %s', applied_version, waiting, (
       select string_agg(version::text, ' ' order by version) from ferry.inbox_waiting w
       where (w.consumer_group, w.aggregate_type, w.aggregate_id) = (s.consumer_group, s.aggregate_type, s.aggregate_id))) as text
     from ferry.inbox_sequence s where consumer_group = $1 order by aggregate_type, aggregate_id`,
    [group],
  );
  return rows.map(({ text }) => text);
}

const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

before(async () => {
  await pool.query(`create table public.effect (
    place bigint generated always as identity, consumer_group text, aggregate text, version bigint)`);
});

describe('one after the other', () => {
  test('the next version is applied, an earlier one skipped, a later one waits for the gap to close', async () => {
    const applied = { outcome: 'applied', applied: 1 };
    assert.deepEqual(await sequence('gap', 1), applied);
    assert.deepEqual(await sequence('gap', 4), { outcome: 'waiting', applied: 0 });
    assert.deepEqual(await sequence('gap', 3), { outcome: 'waiting', applied: 0 });
    assert.deepEqual(await sequence('gap', 6), { outcome: 'waiting', applied: 0 });
    assert.deepEqual(await sequence('gap', 4), { outcome: 'waiting', applied: 0 });
    assert.deepEqual(await sequence('gap', 1), { outcome: 'skipped', applied: 0 });
    assert.deepEqual(await positions('gap'), ['1 (3): 3 4 6']);
    assert.deepEqual(await sequence('gap', 2), { outcome: 'applied', applied: 3 });
    assert.deepEqual(await sequence('gap', 5), { outcome: 'applied', applied: 2 });
    assert.deepEqual(await sequence('gap', 7), applied);
    assert.deepEqual(await effects('gap'), upTo(7));
    assert.deepEqual(await positions('gap'), ['7 (0): ']);
  });

  test('groups, aggregate types and aggregates each have a sequence of their own', async () => {
    await sequence('own-1', 1);
    assert.equal((await sequence('own-2', 1)).outcome, 'applied');
    assert.equal((await sequence('own-1', 1, { aggregateType: 'invoice' })).outcome, 'applied');
    assert.equal((await sequence('own-1', 1, { aggregateId: 'o-2' })).outcome, 'applied');
    assert.deepEqual(await positions('own-1'), ['1 (0): ', '1 (0): ', '1 (0): ']);
  });

  test('a group that begins in the middle takes what came before as applied', async () => {
    assert.equal((await sequence('middle', 41, { startAt: 42n })).outcome, 'skipped');
    assert.equal((await sequence('middle', 43, { startAt: 42n })).outcome, 'waiting');
    assert.equal((await sequence('middle', 42, { startAt: 42n })).applied, 2);
    assert.equal((await sequence('middle', 44)).outcome, 'applied');
    assert.deepEqual(await effects('middle'), [42, 43, 44]);
  });

  test('an event that waited is the one that came, to the last digit', async () => {
    const value = {
      long: 9_223_372_036_854_775_807n,
      small: 1e-300,
      large: 1e300,
      decimal: '12.50',
      text: 'U+0000 \0, "quotes", é, 🚢',
      list: [null, true, { nested: -1 }],
    };
    const source = { topic: 'orders', partition: 0, offset: 2n ** 60n };
    const waiting = [
      consumedEvent(2, { value, source, headers: { ce_type: 'a', note: 'b' }, traceparent: '00-1-2-01' }),
      consumedEvent(3, { value: null, occurredAt: null }),
    ];
    const seen: ConsumedEvent[] = [];
    for (const event of [...waiting, consumedEvent(1)]) {
      await transaction(pool, (tx) =>
        applyInSequence(tx, { group: 'exact', event }, async (applied) => void seen.push(applied)),
      );
    }
    assert.deepEqual(seen, [consumedEvent(1), ...waiting]);
  });

  test('an effect that fails takes everything back, also when it is that of an event that waited', async () => {
    await sequence('fails', 2);
    const failing = transaction(pool, (tx) =>
      applyInSequence(tx, { group: 'fails', event: consumedEvent(1) }, async (event) => {
        await record(tx, 'fails', event);
        if (event.aggregateVersion === 2n) throw new Error('no');
      }),
    );
    await assert.rejects(failing, /^Error: no$/);
    assert.deepEqual([await effects('fails'), await positions('fails')], [[], ['0 (1): 2']]);
    assert.equal((await sequence('fails', 1)).applied, 2);
    assert.deepEqual(await effects('fails'), [1, 2]);
  });

  test('when somebody gives a version up, the next event releases what waits behind it', async () => {
    for (const version of [1, 3, 4]) await sequence('given-up', version);
    await pool.query(`update ferry.inbox_sequence set applied_version = 2 where consumer_group = 'given-up'`);
    assert.deepEqual(await sequence('given-up', 6), { outcome: 'waiting', applied: 2 });
    assert.deepEqual(await sequence('given-up', 2), { outcome: 'skipped', applied: 0 });
    assert.deepEqual([await effects('given-up'), await positions('given-up')], [[1, 3, 4], ['4 (1): 6']]);
  });

  test(`${MAX_WAITING} events wait, and not one more; the missing one still closes the gap`, async () => {
    await transaction(pool, async (tx) => {
      for (let n = 2; n <= MAX_WAITING + 1; n++) await sequenceIn(tx, { group: 'full', event: consumedEvent(n) });
    });
    const one = consumedEvent(MAX_WAITING + 2);
    const refused = transaction(pool, (tx) => sequenceIn(tx, { group: 'full', event: one }));
    await assert.rejects(refused, {
      code: 'SEQUENCE_OVERFLOW',
      details: { group: 'full', aggregateType: 'order', missingVersion: '1', eventId: one.id },
    });
    assert.equal((await sequence('full', 500)).outcome, 'waiting');
    assert.equal((await sequence('full', 1)).applied, MAX_WAITING + 1);
    assert.deepEqual(await effects('full'), upTo(MAX_WAITING + 1));
    assert.deepEqual(await positions('full'), [`${MAX_WAITING + 1} (0): `]);
  });
});

describe('at once', () => {
  /** Two transactions bring the group's first event of an aggregate; the second begins while the first is open, and waits for it. */
  async function race(group: string, end: 'commit' | 'roll back'): Promise<string> {
    const goOn = Promise.withResolvers<void>();
    const first = transaction(pool, async (tx) => {
      await sequenceIn(tx, { group, event: consumedEvent(1) });
      await goOn.promise;
      if (end === 'roll back') throw new Error('rolled back');
    }).catch(() => {});
    await waitUntil('the first holds the row', async () => {
      const { rows } = await pool.query(`select from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction' and query like 'update ferry.inbox_sequence%'`);
      return rows.length === 1;
    });
    const second = sequence(group, 1);
    await waitUntil('the second waits for the first', async () => {
      const { rows } = await pool.query(`select from pg_stat_activity
        where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`);
      return rows.length === 1;
    });
    goOn.resolve();
    await first;
    return (await second).outcome;
  }

  test('the first event of an aggregate is applied by one of two who bring it', async () => {
    assert.equal(await race('both', 'commit'), 'skipped');
    assert.equal(await race('one', 'roll back'), 'applied');
    assert.deepEqual([await effects('both'), await effects('one')], [[1], [1]]);
  });

  test('several members, random order, duplicates and tries that roll back: each version once, in order', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = createRandom(seed);
    const aggregates = ['o-1', 'o-2', 'o-3'];
    const deliveries = aggregates
      .flatMap((aggregateId) => upTo(50).flatMap((version) => [version, version].map((n) => ({ aggregateId, n }))))
      .map((delivery) => ({ ...delivery, place: random.next() }))
      .sort((a, b) => a.place - b.place);
    const met = { applied: 0, skipped: 0, waiting: 0, rolledBack: 0 };

    async function deliver(aggregateId: string, n: number): Promise<void> {
      const event = consumedEvent(n, { aggregateId });
      const fails = random.chance(0.2);
      try {
        const { outcome } = await transaction(pool, async (tx) => {
          const result = await sequenceIn(tx, { group: 'storm', event });
          if (fails) throw new Error('rolled back');
          return result;
        });
        met[outcome]++;
      } catch (error) {
        if (!fails) throw error;
        met.rolledBack++;
        await deliver(aggregateId, n);
      }
    }
    async function member(): Promise<void> {
      for (let next = deliveries.pop(); next !== undefined; next = deliveries.pop()) {
        await deliver(next.aggregateId, next.n);
      }
    }
    await Promise.all(Array.from({ length: 6 }, member));

    for (const aggregateId of aggregates) {
      assert.deepEqual(await effects('storm', `order ${aggregateId}`), upTo(50), `seed ${seed}`);
    }
    assert.deepEqual(await positions('storm'), ['50 (0): ', '50 (0): ', '50 (0): ']);
    assert.ok(Math.min(...Object.values(met)) > 0, `not everything was met: ${JSON.stringify(met)}, seed ${seed}`);
  });
});

test('the group role of consumers is enough; readers only read', async () => {
  await transaction(pool, async (tx) => {
    await tx.query('grant insert on public.effect to ferry_consumer');
    await tx.query('set local role ferry_consumer');
    for (const version of [2, 1]) await sequenceIn(tx, { group: 'role', event: consumedEvent(version) });
  });
  assert.deepEqual(await effects('role'), [1, 2]);
  const asReader = (statement: string) =>
    transaction(pool, async (tx) => {
      await tx.query('set local role ferry_reader');
      await tx.query(statement);
    });
  for (const table of ['ferry.inbox_sequence', 'ferry.inbox_waiting']) {
    await asReader(`select from ${table}`);
    await assert.rejects(asReader(`delete from ${table}`), { code: '42501' });
  }
});
