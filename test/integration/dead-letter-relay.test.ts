/**
 * The relay's dead letters in the store, on the real parts: mended, retried or given up by an operator, published in the order of their key, and
 * resolved when the relay's own notes say so.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { PayloadViews } from '../../src/deadletter/payload-views.ts';
import { discardLetter, editAndRetryLetter, retryLetter } from '../../src/ops/dead-letter-actions.ts';
import { deadLetterKeepers } from '../../src/ops/dead-letter-keepers.ts';
import { type DeadLetterContents, findDeadLetter } from '../../src/ops/dead-letters.ts';
import { listParkedKeys, releaseKeyOf } from '../../src/ops/parked-keys.ts';
import { createPool, type Pool, type Queryable } from '../../src/postgres/connection.ts';
import { transaction } from '../../src/postgres/transaction.ts';
import { createDecoder } from '../../src/registry/decoder.ts';
import { createEncoder } from '../../src/registry/encoder.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { quiet } from '../support/relay-fixtures.ts';
import { type NewEvent, RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(12);
const actor = { principal: 'test', requestId: null };
const store = new SchemaStore(createRegistryClient({ url: stack.registryUrl }));
const decoder = createDecoder({ store });
const naming = 'topic-record';
const tools = {
  views: new PayloadViews({ store, decoder, naming }),
  encoder: createEncoder({ store, naming, maxEventBytes: 900_000 }),
};

const good = (version: number): NewEvent => ({ aggregateId: 'k', version, payload: orderPlaced(random) });
const bad = (version: number): NewEvent => ({
  aggregateId: 'k',
  version,
  payload: { ...orderPlaced(random), total: 'much' },
});

interface Stage {
  readonly lab: RelayLab;
  readonly pool: Pool;
  /** Letters by event id, as soon as all of these are in the store. */
  letters(ids: readonly string[]): Promise<DeadLetterContents[]>;
  untilState(id: string, state: string): Promise<DeadLetterContents>;
  /** Event ids in the topic, in the order of the key. */
  published(): Promise<(string | undefined)[]>;
  act<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
}

/** A relay that streams, and the store with its keepers, on a database of their own. */
async function stage(t: TestContext, environment: Record<string, string> = {}): Promise<Stage> {
  const lab = await RelayLab.open(stack, environment);
  const pool = createPool(lab.config, 'store', { max: 4 });
  const databases = [{ pool, relay: lab.config.RELAY_NAME }];
  const keepers = deadLetterKeepers({ ...quiet, config: lab.config, decoder, databases });
  t.after(async () => {
    await Promise.all(keepers.map((keeper) => keeper.stop()));
    await pool.end();
    await lab.close();
  });
  for (const keeper of keepers) keeper.start();
  await lab.stream();
  const idOf = async (eventId: string) =>
    (await pool.query<{ id: string }>('select id from ferry.dead_letter where event_id = $1', [eventId])).rows[0]?.id;
  return {
    lab,
    pool,
    letters: async (ids) => {
      const found = await waitUntil(`${ids.length} letters`, async () => {
        const each = await Promise.all(ids.map(idOf));
        const known = each.filter((id) => id !== undefined);
        return known.length === ids.length ? known : null;
      });
      return Promise.all(found.map((id) => findDeadLetter(pool, id)));
    },
    untilState: (id, state) =>
      waitUntil(`letter ${id} being ${state}`, async () => {
        const letter = await findDeadLetter(pool, id);
        return letter.state === state ? letter : null;
      }),
    published: async () => (await lab.records(lab.topic('order'))).map(({ headers }) => headers.ce_id),
    act: (work) => transaction(pool, work),
  };
}

describe('a dead letter of the relay', { concurrency: 2 }, () => {
  test('that is edited is published with what waits behind it, in order, and all are resolved', async (t) => {
    const { lab, letters, untilState, published, act, pool } = await stage(t);
    const ids = await lab.insert([bad(1), good(2), good(3)]);
    const [poison, ...followers] = await letters(ids);
    assert.ok(poison !== undefined);
    assert.deepEqual(
      [poison.group, poison.code, poison.key, poison.sourceTopic],
      [null, 'SCHEMA_MISMATCH', 'k', lab.topic('order')],
    );
    assert.deepEqual(
      followers.map(({ code, blockedBy }) => [code, blockedBy]),
      [
        ['KEY_PARKED', ids[0]],
        ['KEY_PARKED', ids[0]],
      ],
    );
    const shown = (await tools.views.redacted(poison)) as Record<string, unknown>;
    await act((tx) =>
      editAndRetryLetter(tx, actor, { id: poison.id, reason: 'typo', payload: { ...shown, total: '20.00' } }, tools),
    );
    for (const { id } of [poison, ...followers]) await untilState(id, 'resolved');
    assert.deepEqual(await published(), ids);
    const [first] = await lab.records(lab.topic('order'));
    const value = (await decoder.decode(first?.value ?? Buffer.alloc(0))).value as Record<string, unknown>;
    const original = JSON.parse(poison.payload ?? '');
    assert.deepEqual([value.total, value.customerId], ['20.00', original.customerId]);
    assert.equal(original.total, 'much', 'the original is kept');
    assert.deepEqual(await listParkedKeys(pool, null), []);
    await lab.assertExactlyOnce();
  });

  test('that still cannot be published is open again', async (t) => {
    const { lab, letters, untilState, published, act, pool } = await stage(t);
    const ids = await lab.insert([bad(1), good(2)]);
    const [poison, follower] = await letters(ids);
    await act((tx) => retryLetter(tx, actor, { id: follower?.id ?? '', reason: 'hope' }));
    const again = await untilState(follower?.id ?? '', 'open');
    assert.deepEqual([again.code, again.retries], ['KEY_PARKED', 1]);
    assert.equal((await findDeadLetter(pool, poison?.id ?? '')).state, 'open');
    assert.deepEqual(await published(), []);
  });

  test('that is given up is never published, and its key goes on without it', async (t) => {
    const { lab, letters, untilState, published, act, pool } = await stage(t);
    const ids = await lab.insert([bad(1), good(2)]);
    const [poison, follower] = await letters(ids);
    await act((tx) => discardLetter(tx, actor, { id: poison?.id ?? '', reason: 'a test order' }));
    const databases = [{ pool, relay: lab.config.RELAY_NAME }];
    const key = { topic: lab.topic('order'), key: 'k', discard: false, reason: 'go on' };
    await releaseKeyOf(databases, actor, { group: null, relay: lab.config.RELAY_NAME, ...key });
    await untilState(follower?.id ?? '', 'resolved');
    assert.deepEqual(await published(), [ids[1]]);
    assert.equal((await findDeadLetter(pool, poison?.id ?? '')).state, 'discarded');
    assert.deepEqual(await listParkedKeys(pool, null), []);
  });

  test('that holds nobody up is published alone, once', async (t) => {
    const { lab, letters, untilState, published, act } = await stage(t, {
      EVENT_TIERS: 'commerce.OrderPlaced=best-effort',
    });
    const ids = await lab.insert([bad(1), good(2)]);
    const [poison] = await letters(ids.slice(0, 1));
    const payload = { ...((await tools.views.whole(poison as DeadLetterContents)) as object), total: '20.00' };
    await act((tx) => editAndRetryLetter(tx, actor, { id: poison?.id ?? '', reason: 'typo', payload }, tools));
    await untilState(poison?.id ?? '', 'resolved');
    assert.deepEqual(new Set(await published()), new Set(ids));
    await lab.assertExactlyOnce();
  });
});
