/**
 * A proof that cannot fail proves nothing. The relay runs on the real parts with one port made faulty on purpose, and the counting of the
 * other tests must turn red, with the right kind of fault.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { relayOptions } from '../../src/app/relays.ts';
import { topicRoutes } from '../../src/events/routes.ts';
import type { FailPointName } from '../../src/kernel/fail-point.ts';
import { createRegistryClient } from '../../src/registry/registry-client.ts';
import { SchemaStore } from '../../src/registry/schema-store.ts';
import type { Checkpoint } from '../../src/relay/checkpoint.ts';
import { relayNames } from '../../src/relay/names.ts';
import { Relay } from '../../src/relay/relay.ts';
import type { RelayOptions } from '../../src/relay/session.ts';
import type { OpenSink, Sink } from '../../src/relay/sink.ts';
import { startTelemetry } from '../../src/telemetry/telemetry.ts';
import { orderPlaced } from '../support/order-payloads.ts';
import { createRandom } from '../support/random.ts';
import { RelayLab } from '../support/relay-lab.ts';
import { waitUntil } from '../support/signals.ts';
import { testStack } from '../support/stack.ts';

const stack = await testStack();
const random = createRandom(1);

describe('a relay with a planted bug turns the counting red:', () => {
  test('none is planted, and it stays green', async (t) => {
    const lab = await labWithPendingOrders(t);
    await startFaulty(t, lab, () => ({}), 'after-commit-before-confirm');
    await lab.assertExactlyOnce();
  });

  test('confirms what was only received: missing', async (t) => {
    const lab = await labWithPendingOrders(t);
    const slot = relayNames(lab.config).slot;
    const confirmed = async () => {
      const { rows } = await lab.sql<{ lsn: string }>(
        'select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1',
        [slot],
      );
      return rows[0]?.lsn;
    };
    const before = await confirmed();
    const { running } = await startFaulty(t, lab, ({ openChangeStream, openSink }) => ({
      openChangeStream: async () => {
        const stream = await openChangeStream();
        const { start } = stream;
        stream.start = (sink) =>
          start({
            onKeepalive: (lsn, reply) => sink.onKeepalive(lsn, reply),
            onChange: (change) => {
              sink.onChange(change);
              if (change.kind === 'commit') stream.confirm(change.endLsn); // the bug
            },
          });
        return stream;
      },
      openSink: wrapSink(openSink, () => ({
        commit: async () => {
          await waitUntil('the early confirmation', async () => (await confirmed()) !== before);
          throw new Error('crash before anything was sent');
        },
      })),
    }));
    await assert.rejects(running, { code: 'RELAY_SLOT_RECREATED' }, 'the start-up comparison notices too');
    assert.equal((await lab.count()).missing, lab.rows);
    await assert.rejects(lab.assertExactlyOnce(1_000));
  });

  test('sends again blindly when an answer is lost: duplicates', async (t) => {
    const lab = await labWithPendingOrders(t);
    let lost = false;
    await startFaulty(t, lab, ({ openSink }) => ({
      openSink: wrapSink(openSink, (sink) => ({
        commit: async (records, checkpoint, onSent) => {
          await sink.commit(records, checkpoint, onSent);
          if (lost || records.length === 0) return;
          lost = true;
          await sink.commit(records, checkpoint, onSent); // the bug
        },
      })),
    }));
    await assert.rejects(lab.assertExactlyOnce(), /duplicates/);
    assert.equal((await lab.count()).duplicates, lab.rows);
  });

  test('goes on from an old checkpoint: duplicates', async (t) => {
    const lab = await labWithPendingOrders(t);
    let first: ReturnType<Sink['readCheckpoint']> | undefined;
    const rememberFirst: Faults = ({ openSink }) => ({
      openSink: wrapSink(openSink, (sink) => ({
        readCheckpoint: () => {
          first ??= sink.readCheckpoint(); // the bug
          return first;
        },
      })),
    });
    await startFaulty(t, lab, rememberFirst, 'after-commit-before-confirm');
    await assert.rejects(lab.assertExactlyOnce(), /duplicates/);
    assert.equal((await lab.count()).duplicates, lab.rows);
  });

  test('sends records without moving the checkpoint: duplicates', async (t) => {
    const lab = await labWithPendingOrders(t);
    let old: Checkpoint | null = null;
    const skipCheckpoint: Faults = ({ openSink }) => ({
      openSink: wrapSink(openSink, (sink) => ({
        readCheckpoint: async () => {
          old = await sink.readCheckpoint();
          return old;
        },
        commit: (records, checkpoint, onSent) => sink.commit(records, old ?? checkpoint, onSent), // the bug
      })),
    });
    await startFaulty(t, lab, skipCheckpoint, 'after-commit-before-confirm');
    await assert.rejects(lab.assertExactlyOnce(), /duplicates/);
    assert.equal((await lab.count()).duplicates, lab.rows);
  });

  test('sends the records of a transaction in another order: out of order', async (t) => {
    const lab = await labWithPendingOrders(t);
    await startFaulty(t, lab, ({ openSink }) => ({
      openSink: wrapSink(openSink, (sink) => ({
        commit: (records, checkpoint, onSent) => sink.commit([...records].reverse(), checkpoint, onSent), // the bug
      })),
    }));
    await assert.rejects(lab.assertExactlyOnce(), /outOfOrder/);
    assert.ok((await lab.count()).outOfOrder > 0);
  });
});

/** What is made faulty, given the real ports. */
type Faults = (real: RelayOptions) => Partial<RelayOptions>;

/** Orders that a relay which stopped cleanly has yet to publish: they are the first that the faulty one meets. */
async function labWithPendingOrders(t: TestContext): Promise<RelayLab> {
  const lab = await RelayLab.open(stack);
  t.after(() => lab.close());
  await lab.stream();
  assert.equal(await lab.relay.stop(), 0);
  await lab.insert(
    Array.from({ length: 30 }, (_, i) => ({ aggregateId: `order-${i % 5}`, payload: orderPlaced(random) })),
  );
  return lab;
}

/**
 * Runs a relay in this process until the test ends; `crashAt` throws once at that fail point, after which it begins anew by itself. The
 * promise inside settles as the relay's run does.
 */
async function startFaulty(
  t: TestContext,
  lab: RelayLab,
  faults: Faults,
  crashAt?: FailPointName,
): Promise<{ readonly running: Promise<void> }> {
  const config = { ...lab.config, LOG_LEVEL: 'silent' as const };
  const telemetry = await startTelemetry(config, { role: 'relay' });
  const store = new SchemaStore(createRegistryClient({ url: stack.registryUrl }));
  const real = relayOptions({ config, telemetry, store, routes: topicRoutes(config) });
  let armed = true;
  const failPoint = (name: FailPointName) => {
    if (!armed || name !== crashAt) return;
    armed = false;
    throw new Error(`crash ${name}`);
  };
  const relay = new Relay({ ...real, failPoint, ...faults(real) });
  const running = relay.run();
  running.catch(() => {}); // who wants to know awaits it
  t.after(async () => {
    relay.stop();
    await running.catch(() => {});
    await telemetry.shutdown();
  });
  return { running };
}

/** Every sink that is opened has the given methods replaced. */
function wrapSink(open: OpenSink, replace: (sink: Sink) => Partial<Sink>): OpenSink {
  return async (relay) => {
    const sink = await open(relay);
    const replaced = replace(sink);
    return new Proxy(sink, {
      get: (_, name: keyof Sink) => {
        const member = replaced[name] ?? sink[name];
        return typeof member === 'function' ? member.bind(sink) : member;
      },
    });
  };
}
