/**
 * The shape of kafkajs's inside, on which src/kafka/protocol.ts and request-queue-patch.ts stand. A red test here after an update of
 * kafkajs says what to look at there.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { kafkaErrorType, sendRaw, throwOnErrorCode } from '../../../src/kafka/protocol.ts';
import '../../../src/kafka/request-queue-patch.ts';
import { rawBroker } from '../../support/raw-broker.ts';
import { kafkaError } from '../../support/scripted-cluster.ts';

const require = createRequire(import.meta.url);
interface Class<T = Readonly<Record<string, unknown>>> {
  readonly prototype: Readonly<Record<string, unknown>>;
  new (settings: object): T;
}

const Cluster: Class = require('kafkajs/src/cluster');
const Broker: Class = require('kafkajs/src/broker');
const RequestQueue: Class<{
  readonly pending: object[];
  readonly throttleCheckTimeoutId: unknown;
  scheduleCheckPendingRequests(): void;
  destroy(): void;
}> = require('kafkajs/src/network/requestQueue');

function parametersOf(method: unknown): string[] {
  const text = /^(?:async )?\w+\(([^)]*)\)/s.exec(String(method))?.[1] ?? '';
  return [...text.replaceAll(/=\s*[^,}]+/g, '').matchAll(/\w+/g)].map(([name]) => name);
}

describe('kafkajs 2.2.4', () => {
  test('is the version that was read', () => {
    assert.equal(require('kafkajs/package.json').version, '2.2.4');
  });

  test('Cluster has the methods that we call, with their arguments', () => {
    const { prototype } = Cluster;
    assert.deepEqual(parametersOf(prototype.addMultipleTargetTopics), ['topics']);
    assert.deepEqual(parametersOf(prototype.findTopicPartitionMetadata), ['topic']);
    assert.deepEqual(parametersOf(prototype.findBroker), ['nodeId']);
    assert.deepEqual(parametersOf(prototype.metadata), ['topics']);
    assert.deepEqual(parametersOf(prototype.findGroupCoordinator), ['groupId', 'coordinatorType']);
    for (const name of ['connect', 'disconnect', 'refreshMetadata', 'findControllerBroker', 'getNodeIds']) {
      assert.deepEqual(parametersOf(prototype[name]), [], name);
    }
  });

  test('Broker has the requests that we send, with their fields', () => {
    const { prototype } = Broker;
    const identity = ['transactionalId', 'producerId', 'producerEpoch'];
    assert.deepEqual(parametersOf(prototype.initProducerId), ['transactionalId', 'transactionTimeout']);
    assert.deepEqual(parametersOf(prototype.addPartitionsToTxn), [...identity, 'topics']);
    assert.deepEqual(parametersOf(prototype.endTxn), [...identity, 'transactionResult']);
    const fields = new Set(parametersOf(prototype.fetch));
    for (const name of ['isolationLevel', 'maxWaitTime', 'minBytes', 'maxBytes', 'topics']) assert.ok(fields.has(name));
    assert.deepEqual(parametersOf(prototype.listOffsets), ['replicaId', 'isolationLevel', 'topics']);
    assert.deepEqual(parametersOf(prototype.offsetFetch), ['groupId', 'topics']);
    const connectionPool = { host: '', port: 0, on() {} };
    const logger = { namespace: () => ({}) };
    assert.equal(new Broker({ connectionPool, logger, nodeId: 1, versions: {} }).connectionPool, connectionPool);
  });

  test('the codes of isolation and of coordinators are ours', () => {
    assert.deepEqual(require('kafkajs/src/protocol/isolationLevel'), { READ_UNCOMMITTED: 0, READ_COMMITTED: 1 });
    assert.deepEqual(require('kafkajs/src/protocol/coordinatorTypes'), { GROUP: 0, TRANSACTION: 1 });
  });

  test('errors of Kafka carry their name', () => {
    assert.doesNotThrow(() => throwOnErrorCode(0));
    for (const [code, type] of [
      [51, 'CONCURRENT_TRANSACTIONS'],
      [16, 'NOT_COORDINATOR_FOR_GROUP'],
      [15, 'GROUP_COORDINATOR_NOT_AVAILABLE'],
      [14, 'GROUP_LOAD_IN_PROGRESS'],
    ] as const) {
      assert.throws(
        () => throwOnErrorCode(code),
        (error) => kafkaErrorType(error) === type,
      );
    }
    assert.throws(() => throwOnErrorCode(12_345)); // a code that kafkajs does not know is still an error
  });

  test('the request queue has what the patch replaces: no timer while nothing waits, one while something does', () => {
    const queue = new RequestQueue({ clientId: 't', broker: 'b', logger: { debug() {} }, requestTimeout: 1_000 });
    queue.scheduleCheckPendingRequests();
    assert.equal(queue.throttleCheckTimeoutId, null);
    queue.pending.push({});
    queue.scheduleCheckPendingRequests();
    assert.notEqual(queue.throttleCheckTimeoutId, null);
    queue.destroy();
  });
});

test('a raw request is encoded as given, and its answer decoded by us', async () => {
  const broker = rawBroker(({ payload }) => Buffer.from(`${payload} answered`));
  const request = { apiKey: 99, apiVersion: 1, apiName: 'Test', payload: Buffer.from('asked') };
  assert.equal(await sendRaw(broker, request, String), 'asked answered');
  assert.equal(await sendRaw(broker, request, () => undefined), undefined);
});

test('the name of an error is found through wrappers, and not in other errors', () => {
  const inner = kafkaError('NOT_LEADER_FOR_PARTITION');
  const wrapped = new Error('b', { cause: Object.assign(new Error('a'), { originalError: inner }) });
  assert.equal(kafkaErrorType(wrapped), 'NOT_LEADER_FOR_PARTITION');
  const loop = new Error('loop');
  loop.cause = loop;
  for (const other of [loop, new Error('x'), undefined, 'text', { type: 'FAKE' }])
    assert.equal(kafkaErrorType(other), null);
});
