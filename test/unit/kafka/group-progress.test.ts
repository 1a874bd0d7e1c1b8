/** Whether a group has read all there is: for any log, any offset that it has committed and any end, whatever was asked before. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GroupProgress } from '../../../src/kafka/group-progress.ts';
import { quiet } from '../../support/relay-fixtures.ts';
import { scriptedBroker, scriptedCluster } from '../../support/scripted-cluster.ts';
import { TransactionLog } from '../../support/transaction-log.ts';

function progressOver(log: TransactionLog, onFetch: () => void = () => {}): GroupProgress {
  const broker = scriptedBroker({
    fetch: async ({ topics, maxWaitTime }) => {
      onFetch();
      assert.equal(maxWaitTime, 0, 'it would hold up the other requests of the connection');
      const from = BigInt(topics[0]?.partitions[0]?.fetchOffset ?? -1);
      return { responses: [{ topicName: 't', partitions: [log.fetch(from, 2)] }] };
    },
  });
  const cluster = scriptedCluster({
    findTopicPartitionMetadata: () => [{ partitionId: 0, leader: 1 }],
    findBroker: async () => broker,
  });
  const kafka = { brokers: [], tls: false, clientId: 'test', logger: quiet.logger };
  return new GroupProgress({ kafka, groupId: 'g', topics: ['t'] }, cluster, broker);
}

const ends = (to: bigint, from = 0n) => [{ topic: 't', partition: 0, from, to }];
const at = (offset: bigint) => new Map([['t/0', offset]]);

describe('a group has reached the ends', () => {
  test('exactly when no committed record stands between what it has committed and them', async () => {
    const step = fc.tuple(fc.constantFrom('1', '2', 'commit', 'abort', 'plain'), fc.nat(), fc.nat());
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const log = new TransactionLog();
        const progress = progressOver(log);
        for (const [what, a, b] of steps) {
          if (what === 'plain') log.writePlain();
          else if (what === '1' || what === '2') log.write(what);
          else for (const producer of log.openProducers) log[what](producer);
          const to = BigInt(a) % (log.end + 1n);
          const offset = BigInt(b) % (log.end + 1n);
          const stable = BigInt(log.fetch(log.end).lastStableOffset);
          const left = log.committed.some((record) => record >= offset && record < to);
          const undecided = offset < to && to > stable;
          assert.equal(await progress.hasReached(ends(to), at(offset)), !left && !undecided);
        }
      }),
    );
  });

  test('also from what retention has left, and where it never committed', async () => {
    const log = new TransactionLog().writePlain(3).write('1').commit('1');
    const progress = progressOver(log);
    assert.equal(await progress.hasReached(ends(log.end), new Map()), false);
    assert.equal(await progress.hasReached(ends(log.end, 4n), new Map()), true);
    assert.equal(await progress.hasReached(ends(log.end, 4n), at(1n)), true);
    assert.equal(await progress.hasReached([], new Map()), true);
    assert.equal(await progress.hasReached(ends(0n), new Map()), true);
  });

  test('without looking into a partition again where nothing is new', async () => {
    const log = new TransactionLog().write('1').commit('1').write('1').commit('1');
    let fetches = 0;
    const progress = progressOver(log, () => {
      fetches += 1;
    });
    for (let i = 0; i < 5; i++) {
      assert.equal(await progress.hasReached(ends(log.end), at(1n)), false);
      assert.equal(await progress.hasReached(ends(log.end), at(3n)), true);
    }
    assert.ok(fetches <= 10, `${fetches} fetches`);
    const before = fetches;
    for (let i = 0; i < 5; i++) assert.equal(await progress.hasReached(ends(log.end), at(3n)), true);
    assert.equal(fetches, before);
  });
});
